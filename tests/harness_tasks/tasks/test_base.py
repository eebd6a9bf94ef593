"""The four tasks, end to end through lm-eval, against a reference written from the protocol."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from lm_eval.utils import make_table
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

import harness_tasks.tasks.base
from harness_tasks.errors import CorpusError

from ..evaluating import TASKS, evaluate, score
from .reference import Reference

World = tuple[PreTrainedTokenizerFast, LlamaForCausalLM]


def test_scores_are_muses(either: World, corpus_folder: Path) -> None:
    tokenizer, model = either
    muse = Reference(model, tokenizer, corpus_folder)
    reference = {
        "verbmem": muse.verbmem(),
        "knowmem": muse.knowmem("forget"),
        "utility": muse.knowmem("retain"),
    }
    auc = muse.auc()
    assert 0 < auc < 1
    for batch_size in (1, 4, "auto"):
        lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size, max_batch_size=8)
        results = evaluate(lm, corpus_folder, ["muse"])
        for metric, expected in reference.items():
            assert 0 < expected["score"] < 100  # else it would prove little
            value = score(results, f"muse_{metric}", metric)
            assert value == pytest.approx(expected["score"], abs=0.01)
            responses = [sample["resps"][0][0] for sample in results["samples"][f"muse_{metric}"]]
            assert responses == expected["responses"]
        assert score(results, "muse_privleak", "auc") == pytest.approx(auc, abs=1e-4)
        privleak = score(results, "muse_privleak", "privleak")
        assert privleak == pytest.approx((auc - 0.48) / 0.48 * 100, abs=0.02)


def test_prompt_reaches_the_model_as_muses_tokens(
    either: World, corpus_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trailing space of ``Answer: `` is a token, and ten answered questions come before."""
    lm = HFLM(pretrained=either[1], tokenizer=either[0], batch_size=4)
    seen: list[list[int]] = []
    generate = lm._model_generate

    def spy(context: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        seen.extend(
            row[mask.bool()].tolist()
            for row, mask in zip(context, kwargs["attention_mask"], strict=True)
        )
        return generate(context=context, **kwargs)

    monkeypatch.setattr(lm, "_model_generate", spy)
    evaluate(lm, corpus_folder, ["muse_knowmem"])
    muse = Reference(lm.model, lm.tokenizer, corpus_folder)
    shots = "".join(
        f"Question: {row['question']}\nAnswer: {row['answer']}\n\n"
        for row in muse.read("knowmem/forget_qa_icl")
    )
    expected = [
        muse.encode(f"{shots}Question: {row['question']}\nAnswer: ")[0].tolist()
        for row in muse.read("knowmem/forget_qa")
    ]
    assert sorted(seen) == sorted(expected)
    assert lm.tokenizer.convert_ids_to_tokens(expected[0][-1]) in ("Ġ", "▁")


def test_document_column_leaves_prompts_and_scores_as_they_are(
    lm: HFLM, corpus_folder: Path, tmp_path: Path
) -> None:
    plain = evaluate(lm, corpus_folder, ["muse_knowmem", "muse_verbmem"])
    for name in ("knowmem/forget_qa", "knowmem/forget_qa_icl", "verbmem/forget"):
        rows = json.loads((corpus_folder / f"{name}.json").read_text(encoding="utf-8"))
        rows = [{"document": n // 2, **row} for n, row in enumerate(rows)]
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.json").write_text(json.dumps(rows), encoding="utf-8")
    results = evaluate(lm, tmp_path, ["muse_knowmem", "muse_verbmem"])
    assert results["results"] == plain["results"]
    for task, samples in results["samples"].items():
        assert [s["doc"]["document"] for s in samples] == ["0", "0", "1", "1", "2", "2"]
        expected = [sample["arguments"] for sample in plain["samples"][task]]
        assert [sample["arguments"] for sample in samples] == expected


def test_chat_template_is_not_muses_protocol(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    corpus_folder: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.chat_template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=4)
    tasks = ["muse_knowmem", "muse_utility"]
    harness_tasks.tasks.base._warn_chat_template.cache_clear()

    def warnings() -> list[str]:
        return [r.message for r in caplog.records if "--apply_chat_template" in r.message]

    evaluate(lm, corpus_folder, tasks, limit=1)
    assert warnings() == []
    results = evaluate(lm, corpus_folder, tasks, limit=1, apply_chat_template=True)
    assert results["samples"]["muse_knowmem"][0]["arguments"][0][0].startswith("<user>")
    (warning,) = warnings()
    assert "not comparable with published" in warning


@pytest.mark.parametrize("add_bos_token", [True, False])
def test_bos_follows_add_bos_token(either: World, corpus_folder: Path, add_bos_token: bool) -> None:
    """All requests encode in the same way, with one log-probability fewer without BOS."""
    tokenizer, model = either
    lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=2, add_bos_token=add_bos_token)
    results = evaluate(lm, corpus_folder, ["muse_auc", "muse_verbmem"], limit=2)
    text = results["samples"]["muse_auc"][0]["doc"]["text"]
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    response = results["samples"]["muse_auc"][0]["resps"][0][0]
    assert len(response["logprobs"]) == len(ids) - 1 + add_bos_token
    sample = results["samples"]["muse_verbmem"][0]
    gt = tokenizer(sample["target"], add_special_tokens=add_bos_token)["input_ids"]
    assert len(gt) > 128
    assert sample["resps"][2][0] == tokenizer.decode(gt[:128], skip_special_tokens=True)


def test_table_and_results(lm: HFLM, corpus_folder: Path) -> None:
    results = evaluate(lm, corpus_folder, ["muse"])
    table = make_table(results)
    rows = [
        [cell.strip() for cell in line.split("|")] for line in table.splitlines() if "±" in line
    ]
    assert [row[5] for row in rows] == ["knowmem", "auc", "privleak", "utility", "verbmem"]
    assert all(float(row[9]) >= 0 for row in rows)
    assert "stderr_stderr" not in table
    assert results["higher_is_better"]["muse_utility"]["utility"] is True
    assert results["higher_is_better"]["muse_verbmem"]["verbmem"] is False
    assert results["versions"]["muse_privleak"] == 1.1
    metadata = results["configs"]["muse_knowmem"]["metadata"]
    assert metadata["corpus"]["location"] == str(corpus_folder)
    assert len(metadata["corpus"]["fingerprint"]) == 64
    assert results["configs"]["muse_privleak"]["metadata"]["retrain_auc"] == 0.48
    json.dumps({k: v for k, v in results.items() if k != "config"}, allow_nan=False)


def test_samples_show_prompt_response_reference_and_score(lm: HFLM, corpus_folder: Path) -> None:
    results = evaluate(lm, corpus_folder, ["muse"], limit=3)
    for task in ("verbmem", "knowmem", "utility"):
        sample = results["samples"][f"muse_{task}"][0]
        prompt, response = sample["arguments"][0][0], sample["resps"][0][0]
        assert isinstance(prompt, str) and isinstance(response, str)
        assert sample["target"]
        assert 0 <= sample[task] <= 100
    samples = results["samples"]["muse_privleak"]
    assert [sample["target"] for sample in samples] == ["forget", "holdout", "forget"]
    assert all(sample["auc"].score < 0 for sample in samples)
    assert results["n-samples"]["muse_privleak"] == {"original": 12, "effective": 3}


def test_predict_only(lm: HFLM, corpus_folder: Path) -> None:
    results = evaluate(lm, corpus_folder, ["muse"], limit=2, predict_only=True)
    for task in ("muse_verbmem", "muse_privleak"):
        assert score(results, task, "bypass") == 999
        assert len(results["samples"][task][0]["resps"]) >= 1


def test_model_that_gives_nan(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, corpus_folder: Path
) -> None:
    """Undefined scores are marked as failed, others are numbers, and none is NaN."""
    weight = model.lm_head.weight.detach().clone()
    try:
        with torch.no_grad():
            model.lm_head.weight.fill_(torch.nan)
        lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=4)
        results = evaluate(lm, corpus_folder, ["muse"])
    finally:
        with torch.no_grad():
            model.lm_head.weight.copy_(weight)
    failure = "failed: NaN scores for 12 of 12 texts"
    assert score(results, "muse_privleak", "privleak") == failure
    assert score(results, "muse_privleak", "privleak_stderr") == "N/A"
    for metric in ("verbmem", "knowmem", "utility"):
        assert 0 <= score(results, f"muse_{metric}", metric) <= 100
    assert "nan" not in make_table(results).lower().replace("nan scores", "")


def test_memorization_against_one_text_at_a_time(lm: HFLM, corpus_folder: Path) -> None:
    results = evaluate(lm, corpus_folder, ["muse_memorization"])
    muse = Reference(lm.model, lm.tokenizer, corpus_folder)
    for sample in results["samples"]["muse_memorization"]:
        row = sample["doc"]
        ids = muse.encode(row["prompt"] + row["gt"])
        start = muse.encode(row["prompt"]).shape[1]
        with torch.no_grad():
            likeliest = lm.model(ids).logits[0].argmax(-1)
        right = [int(likeliest[i - 1]) == int(ids[0, i]) for i in range(start, ids.shape[1])]
        k = max((i + 1 for i, correct in enumerate(right) if not correct), default=0)
        expected = 100 * sum(right) / len(right)
        assert sample["exact_memorization"] == pytest.approx(expected)
        assert sample["extraction_strength"] == pytest.approx(100 * (1 - k / len(right)))
    assert 0 < score(results, "muse_memorization", "exact_memorization") < 100


@pytest.mark.parametrize("suite", ["scal", "sust"])
def test_memorization_of_forget_sets(lm: HFLM, corpus_folder: Path, suite: str) -> None:
    """Each fold has its task, whole texts are scored, and the group includes Utility."""
    results = evaluate(
        lm, corpus_folder, [f"muse_news_{suite}"], metadata={"data_dir": str(corpus_folder.parent)}
    )
    muse = Reference(lm.model, lm.tokenizer, corpus_folder)
    for fold in range(1, 5):
        samples = results["samples"][f"muse_news_{suite}_{fold}"]
        texts = muse.read(f"{suite}/forget_{fold}")
        assert [sample["target"] for sample in samples] == texts
        lengths = [muse.encode(text).shape[1] - 1 for text in texts]
        assert [len(sample["resps"][0][0]["greedy"]) for sample in samples] == lengths
    assert "muse_news_utility" in results["results"]


def test_task_without_a_corpus() -> None:
    manager = TaskManager(include_path=str(TASKS), include_defaults=False)
    with pytest.raises(CorpusError, match="muse_verbmem works on any corpus"):
        manager.load(["muse_verbmem"])


def test_too_few_answered_questions(lm: HFLM, corpus_folder: Path, tmp_path: Path) -> None:
    for name in ("forget_qa", "forget_qa_icl"):
        rows = json.loads((corpus_folder / f"knowmem/{name}.json").read_text(encoding="utf-8"))
        (tmp_path / "knowmem").mkdir(exist_ok=True)
        (tmp_path / f"knowmem/{name}.json").write_text(json.dumps(rows[:4]), encoding="utf-8")
    with pytest.raises(CorpusError, match="forget_qa_icl has 4 entries, the prompt takes 10"):
        evaluate(lm, tmp_path, ["muse_knowmem"])
    results = evaluate(lm, tmp_path, ["muse_knowmem"], num_fewshot=4)
    assert results["samples"]["muse_knowmem"][0]["arguments"][0][0].count("Question:") == 5
