"""The four tasks, end to end through lm-eval, against a reference written from the protocol."""

import copy
import json
import zlib
from pathlib import Path
from typing import Any

import pytest
import torch
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from lm_eval.utils import make_table
from rouge_score.rouge_scorer import RougeScorer
from sklearn.metrics import roc_auc_score
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

import harness_tasks.tasks.base
from harness_tasks.compat import task_index
from harness_tasks.errors import CorpusError, RequestError

from ..evaluating import TASKS, evaluate, task_manager


def score(results: dict[str, Any], task: str, metric: str) -> Any:
    return results["results"][task][f"{metric},none"]


class Reference:
    """MUSE by the letter of the protocol: one text at a time, plain generate and log-softmax."""

    def __init__(self, model: LlamaForCausalLM, tokenizer: Any, corpus: Path) -> None:
        self.model, self.tokenizer, self.corpus = model, tokenizer, corpus
        self.rouge = RougeScorer(["rougeL"], use_stemmer=False)

    def read(self, name: str) -> list[Any]:
        return json.loads((self.corpus / f"{name}.json").read_text(encoding="utf-8"))

    def encode(self, text: str) -> torch.Tensor:
        return self.tokenizer(text, return_tensors="pt", add_special_tokens=True)["input_ids"]

    def generate(self, prompt: str, max_new_tokens: int) -> str:
        ids = self.encode(prompt)
        output = self.model.generate(
            ids, max_new_tokens=max_new_tokens, do_sample=False, pad_token_id=1
        )
        return self.tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True)

    def rouge_l(self, response: str, reference: str) -> float:
        return 100 * self.rouge.score(reference, response)["rougeL"].fmeasure

    def verbmem(self) -> dict[str, Any]:
        scores, responses = [], []
        for row in self.read("verbmem/forget"):
            responses.append(self.generate(row["prompt"], 128))
            cut = self.encode(row["gt"])[0, :128]
            reference = self.tokenizer.decode(cut, skip_special_tokens=True)
            scores.append(self.rouge_l(responses[-1], reference))
        return {"score": sum(scores) / len(scores), "responses": responses}

    def knowmem(self, half: str) -> dict[str, Any]:
        shots = "".join(
            f"Question: {row['question']}\nAnswer: {row['answer']}\n\n"
            for row in self.read(f"knowmem/{half}_qa_icl")
        )
        scores, responses = [], []
        for row in self.read(f"knowmem/{half}_qa"):
            response = self.generate(f"{shots}Question: {row['question']}\nAnswer: ", 32)
            for stop in ("\n\n", "\nQuestion", "Question:"):
                response = response.split(stop)[0]
            responses.append(response)
            scores.append(self.rouge_l(response, row["answer"]))
        return {"score": sum(scores) / len(scores), "responses": responses}

    def auc(self) -> float:
        scores, labels = [], []
        for split in ("forget", "holdout"):
            for text in self.read(f"privleak/{split}"):
                ids = self.encode(text)
                with torch.no_grad():
                    logits = self.model(ids).logits[0]
                logprobs = [
                    torch.log_softmax(logits[i], -1)[ids[0, i + 1]].item()
                    for i in range(ids.shape[1] - 1)
                ]
                lowest = sorted(logprobs)[: int(0.4 * len(logprobs))]
                scores.append(sum(lowest) / len(lowest))
                labels.append(int(split == "holdout"))
        return float(roc_auc_score(labels, scores))


World = tuple[PreTrainedTokenizerFast, LlamaForCausalLM]


@pytest.fixture
def lm(tokenizer: PreTrainedTokenizerFast, model: LlamaForCausalLM) -> HFLM:
    return HFLM(pretrained=model, tokenizer=tokenizer, batch_size=4)


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
    """All requests encode alike: one token of log-probability fewer without BOS."""
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


def test_limit_of_one_leaves_auc_without_a_number(lm: HFLM, corpus_folder: Path) -> None:
    results = evaluate(lm, corpus_folder, ["muse_privleak"], limit=1)
    assert score(results, "muse_privleak", "privleak").startswith("N/A")
    assert score(results, "muse_privleak", "privleak_stderr") == "N/A"
    assert "N/A" in make_table(results)


def test_no_bootstrap_needed_for_errors(lm: HFLM, corpus_folder: Path) -> None:
    results = evaluate(lm, corpus_folder, ["muse_privleak"], bootstrap_iters=0)
    assert score(results, "muse_privleak", "auc_stderr") > 0
    assert score(results, "muse_privleak", "privleak_stderr") > 0


def test_predict_only(lm: HFLM, corpus_folder: Path) -> None:
    results = evaluate(lm, corpus_folder, ["muse"], limit=2, predict_only=True)
    for task in ("muse_verbmem", "muse_privleak"):
        assert score(results, task, "bypass") == 999
        assert len(results["samples"][task][0]["resps"]) >= 1


def test_use_cache_serves_every_kind_of_response(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    corpus_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def run() -> dict[str, Any]:
        lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=4)
        return evaluate(lm, corpus_folder, ["muse"], use_cache=str(tmp_path / "cache"), limit=4)

    first = run()

    def unreachable(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("the model was run again")

    monkeypatch.setattr(model, "forward", unreachable)
    assert run()["results"] == first["results"]


def test_text_longer_than_the_context(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, corpus_folder: Path
) -> None:
    """Refused by default, with text, length and limit; cut on request, and the results say so."""
    lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=4, max_length=60)
    with pytest.raises(RequestError, match=r"muse_auc: text 0 has \d+ tokens, the model holds 60"):
        evaluate(lm, corpus_folder, ["muse_auc"])
    with pytest.raises(RequestError, match=r"muse_knowmem: text 0 has \d+ tokens \(32 of them"):
        evaluate(lm, corpus_folder, ["muse_knowmem"])
    results = evaluate(lm, corpus_folder, ["muse_auc"], metadata={"truncate": True})
    assert score(results, "muse_auc", "truncated") == 1.0
    assert results["configs"]["muse_auc"]["metadata"]["truncate"] is True
    assert len(results["samples"]["muse_auc"][0]["resps"][0][0]["logprobs"]) == 59
    whole = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=4)
    results = evaluate(whole, corpus_folder, ["muse_auc"], metadata={"truncate": True})
    assert score(results, "muse_auc", "truncated") == 0.0


def test_model_that_gives_nan(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, corpus_folder: Path
) -> None:
    """Marked as failed where no score is defined, a number otherwise, NaN nowhere."""
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


def test_attacks_are_muses(lm: HFLM, corpus_folder: Path) -> None:
    """Against one text at a time; the AUC of Min-40% is PrivLeak's, from shared forward passes."""
    tasks = ["muse_mia", "muse_privleak"]
    results = evaluate(lm, corpus_folder, tasks)
    muse = Reference(lm.model, lm.tokenizer, corpus_folder)
    scores: dict[str, list[float]] = {"loss": [], "lower": [], "zlib": [], "min_20_plus_plus": []}
    labels = []
    for split in ("forget", "holdout"):
        for text in muse.read(f"privleak/{split}"):
            labels.append(int(split == "holdout"))
            ids = muse.encode(text)
            with torch.no_grad():
                loss = lm.model(ids, labels=ids).loss.item()
                lower_ids = muse.encode(text.lower())
                lower = lm.model(lower_ids, labels=lower_ids).loss.item()
                logprobs = lm.model(ids).logits[0, :-1].double().log_softmax(-1)
            own = logprobs.gather(-1, ids[0, 1:, None])[:, 0]
            mean = (logprobs.exp() * logprobs).sum(-1)
            variance = (logprobs.exp() * logprobs**2).sum(-1) - mean**2
            normal = ((own - mean) / variance.sqrt()).sort().values
            scores["loss"].append(-loss)
            scores["lower"].append(-loss / lower)
            scores["zlib"].append(-loss / len(zlib.compress(text.encode())))
            scores["min_20_plus_plus"].append(normal[: int(0.2 * len(normal))].mean().item())
    for attack, values in scores.items():
        items = [sample[f"auc_{attack}"].score for sample in results["samples"]["muse_mia"]]
        alternating = [v for pair in zip(values[:6], values[6:], strict=True) for v in pair]
        assert items == pytest.approx(alternating, abs=1e-4)
        auc = score(results, "muse_mia", f"auc_{attack}")
        assert auc == pytest.approx(roc_auc_score(labels, values), abs=1e-4)
    assert score(results, "muse_mia", "auc_min_40") == score(results, "muse_privleak", "auc")
    assert score(results, "muse_mia", "auc_min_40_stderr") > 0


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
    """Each fold has its task, whole texts are scored, and Utility stands beside."""
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


def test_task_that_is_not_told_its_corpus() -> None:
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


def test_privleak_without_retrain_auc_is_refused_but_the_auc_is_not(
    lm: HFLM, corpus_folder: Path, tmp_path: Path
) -> None:
    bare = tmp_path / "bare"
    (bare / "privleak").mkdir(parents=True)
    for split in ("forget", "holdout"):
        source = corpus_folder / f"privleak/{split}.json"
        (bare / f"privleak/{split}.json").write_bytes(source.read_bytes())
    with pytest.raises(CorpusError, match=r"has no retrain AUC.*corpus retrain-auc"):
        evaluate(lm, bare, ["muse_privleak"])
    assert 0 <= score(evaluate(lm, bare, ["muse_auc"]), "muse_auc", "auc") <= 1


def test_every_published_task_has_its_corpus_and_the_generic_settings() -> None:
    """Groups of four over one corpus each, differing from the generic tasks in nothing else."""
    index = task_index(task_manager("{}"))
    for corpus in ("books", "news", "demo"):
        names = [f"muse_{corpus}_{t}" for t in ("verbmem", "knowmem", "privleak", "utility")]
        assert index[f"muse_{corpus}"].cfg["task"] == names
        for name in [*names, f"muse_{corpus}_mia", f"muse_{corpus}_memorization"]:
            generic = index[name.replace(f"_{corpus}", "")].cfg
            own = index[name].cfg
            assert own["dataset_name"] == corpus
            assert {k: v for k, v in own.items() if k not in ("task", "dataset_name")} == {
                k: v for k, v in generic.items() if k != "task"
            }
