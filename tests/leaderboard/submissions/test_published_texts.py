"""MUSE's texts and models, with records made by hand."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from harness_tasks.corpora import PUBLISHED
from leaderboard.corpora.corpus import PUBLISHED_MODELS
from leaderboard.records import samples
from leaderboard.records.schema import Record
from leaderboard.submissions import answer_checks
from leaderboard.submissions.benchmark_checks import benchmark_findings


def published(make: Any, **changes: Any) -> dict[str, Any]:
    """Target and retrain records on the pinned MUSE-News, with changes to the corpus."""
    pinned = PUBLISHED["news"]
    corpus = {
        "revision": pinned.revision,
        "fingerprint": hashlib.sha256(f"{pinned.repo}@{pinned.revision}".encode()).hexdigest(),
        **changes,
    }
    records = {}
    for role in ("target", "retrain"):
        content = make(role).model_dump(mode="json")
        model = PUBLISHED_MODELS["news", role]
        content["cell"]["training"]["corpus"] |= corpus
        content["cell"]["training"]["model"] = {"name": model.path, "revision": model.revision}
        content["provenance"]["retrain_auc"] = pinned.retrain_auc
        records[f"records/{role}.json"] = Record.model_validate(content)
    return records


def benchmark(records: dict[str, Any]) -> list[str]:
    return [str(finding) for finding in benchmark_findings(records)]


def test_published_benchmark_is_known(make: Any) -> None:
    assert benchmark(published(make)) == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"revision": "0" * 40}, "problem: records/target.json: cell.training.corpus: not news at"),
        ({"fingerprint": "0" * 64}, "problem: records/target.json: cell.training.corpus: not news"),
        ({"name": "mars"}, "problem: records/target.json: cell.training.corpus: no mars is known"),
        (
            {"source": "folder"},
            "warning: records/target.json: the corpus news was read from a fold",
        ),
        (
            {"source": "folder", "name": "mine"},
            "warning: records/target.json: the corpus mine is not one of MUSE's",
        ),
    ],
)
def test_other_text_is_reported(make: Any, changes: dict[str, Any], expected: str) -> None:
    (finding,) = benchmark(published(make, **changes))
    assert finding.startswith(expected)


def test_other_models_and_retrain_auc_are_reported(make: Any) -> None:
    """Records of unpublished models, with a retrain AUC of 0.5."""
    records = published(make)
    other = make("retrain").model_dump(mode="json")
    content = records["records/retrain.json"].model_dump(mode="json")
    content["cell"]["training"]["model"] = other["cell"]["training"]["model"]
    content["provenance"]["retrain_auc"] = 0.5
    records["records/retrain.json"] = Record.model_validate(content)
    place = "records/retrain.json"
    assert benchmark(records) == [
        f"problem: {place}: provenance.retrain_auc: 0.5, other cells have 0.4772",
        f"warning: {place}: the retrain model is not the one published with news",
    ]
    content["provenance"]["retrain_auc"] = 0.2
    content["cell"]["training"]["corpus"] |= {"name": "mine", "source": "folder"}
    assert benchmark({place: Record.model_validate(content)})[1:] == [
        f"warning: {place}: provenance.retrain_auc: 0.2, far from the 0.5 of a model that saw "
        "neither set"
    ]


@pytest.mark.parametrize(("limit", "answers", "wrong"), [(None, 100, 0), (None, 99, 1), (4, 3, 1)])
def test_published_benchmark_has_a_known_size(
    make: Any, limit: int | None, answers: int, wrong: int
) -> None:
    """Hundred answers to each question set, or the first of them."""
    (record, _) = published(make).values()
    record = record.model_copy(update={"cell": record.cell.model_copy(update={"limit": limit})})
    given = [
        samples.Sample(
            task="utility", example=i, prompt="a", response="b", reference="b", score=100
        )
        for i in range(answers)
    ]
    found = [
        text
        for text in answer_checks.answer_problems(record, given)
        if "the examples are not" in text
    ]
    assert len(found) == wrong
