"""Differences of lm-eval's versions in a task; `make test-next` runs it on the next one."""

import json
from pathlib import Path

import lm_eval
import pytest
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from .evaluating import TASKS, evaluate, own_names


def test_answers_of_digits_stay_text(lm: HFLM, tmp_path: Path) -> None:
    for name, answers in (("forget_qa_icl", ["007"] * 10), ("forget_qa", ["1943", "42"])):
        rows = [{"question": f"Which number is {n}?", "answer": a} for n, a in enumerate(answers)]
        (tmp_path / "knowmem").mkdir(exist_ok=True)
        (tmp_path / f"knowmem/{name}.json").write_text(json.dumps(rows), encoding="utf-8")
    samples = evaluate(lm, tmp_path, ["muse_knowmem"])["samples"]["muse_knowmem"]
    assert [sample["target"] for sample in samples] == ["1943", "42"]
    assert samples[0]["arguments"][0][0].count("\nAnswer: 007\n\n") == 10


def test_chosen_samples_keep_their_numbers(lm: HFLM, corpus_folder: Path) -> None:
    """Numbers are right in any order; forget and holdout texts alternate."""
    chosen = [9, 2, 5]
    samples = evaluate(lm, corpus_folder, ["muse_auc"], samples={"muse_auc": chosen})["samples"]
    texts = [
        json.loads((corpus_folder / f"privleak/{side}.json").read_text(encoding="utf-8"))
        for side in ("forget", "holdout")
    ]
    expected = {number: texts[number % 2][number // 2] for number in chosen}
    found = {sample["doc_id"]: sample["doc"]["text"] for sample in samples["muse_auc"]}
    assert found == expected


def test_filters_see_responses_only(lm: HFLM, corpus_folder: Path, tmp_path: Path) -> None:
    """A filter of texts is not applied to the context check and the cut reference."""
    (tmp_path / "shouted.yaml").write_text(
        f"include: {TASKS / 'muse_verbmem.yaml'}\n"
        "task: shouted\n"
        "filter_list: [{name: upper, filter: [{function: uppercase}, {function: take_first}]}]\n"
    )
    manager = TaskManager(
        include_path=str(tmp_path), include_defaults=False, metadata={"corpus": str(corpus_folder)}
    )
    results = lm_eval.simple_evaluate(model=lm, tasks=["shouted"], task_manager=manager, limit=2)
    assert results is not None
    plain = evaluate(lm, corpus_folder, ["muse_verbmem"], limit=2)
    for sample, own in zip(
        own_names(results)["samples"]["shouted"], plain["samples"]["muse_verbmem"], strict=True
    ):
        response, _, reference = sample["filtered_resps"]
        assert str(own["resps"][0][0].upper()) in (response, *response)
        assert str(own["resps"][2][0]) in (reference, *reference)
        # ROUGE lower-cases
        assert sample["verbmem"] == pytest.approx(own["verbmem"])
