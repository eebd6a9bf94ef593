"""PrivLeak's zero and its error in a submission, against the retrained model's own examples.

Two texts a side. Retrained model: holdout 1 and 3, forget 0 and 2, AUC 3/4. Target: holdout 1 and
2, forget 0 and 3, AUC 1/2, PrivLeak 100 * (2/3 - 1) = -33.33. The derivatives of PrivLeak by the
two AUCs are 133.33 and -88.89. The components of the texts, less their AUC, are (-1/4, 1/4) and
(1/4, -1/4) of the retrained model, (0, 0) and (1/2, -1/2) of the target, so that the variance is
22.22² + 44.44² = 2469.1: an error of 49.69.
"""

from __future__ import annotations

from typing import Any

import pytest

from leaderboard.records.schema import (
    ExampleScores,
    Metric,
    ModelId,
    Record,
    RetrainAuc,
)
from leaderboard.submissions.benchmark_checks import benchmark_findings

RETRAINED = {"privleak/holdout": (1.0, 3.0), "privleak/forget": (0.0, 2.0)}
TARGET = {"privleak/holdout": (1.0, 2.0), "privleak/forget": (0.0, 3.0)}
ZERO_ERROR = 0.353553
"""Error of the AUC 3/4: the root of (1/8 + 1/8) / 2."""
METRIC = Metric(value=-33.333333, stderr=49.690399, low=-100.0, high=33.333333)


def record(
    make: Any,
    method: str,
    scores: dict[str, tuple[float, ...]],
    metric: Metric,
    precision: str = "none",
    auc: float | None = 0.75,
    auc_error: float | None = ZERO_ERROR,
    source: RetrainAuc | None = None,
) -> Record:
    """Record on a local text with PrivLeak only; its zero is measured unless given."""
    made: Record = make(method, precision)
    corpus = made.cell.training.corpus.model_copy(update={"name": "mine", "source": "folder"})
    training = made.cell.training.model_copy(update={"corpus": corpus})
    zero = source or RetrainAuc(source="measured", value=None, model=training.model)
    examples = {
        name: ExampleScores(examples=(0, 1), scores=values) for name, values in scores.items()
    }
    provenance = made.provenance.model_copy(
        update={"retrain_auc": auc, "retrain_auc_stderr": auc_error}
    )
    return made.model_copy(
        update={
            "cell": made.cell.model_copy(update={"training": training, "retrain_auc": zero}),
            "metrics": {"privleak": metric},
            "examples": examples,
            "provenance": provenance,
        }
    )


SELF = Metric(value=0.0, stderr=None)


def findings(*records: Record) -> list[str]:
    """Findings on PrivLeak and its zero; the file is the method and the precision."""
    named = {f"{r.cell.training.method}-{r.cell.precision}": r for r in records}
    found = [str(finding) for finding in benchmark_findings(named)]
    return [line for line in found if "text is not checked" not in line and "far from" not in line]


def test_errors_that_the_examples_give(make: Any) -> None:
    """Retrained model as its own zero: PrivLeak 0, without an error."""
    assert (
        findings(record(make, "target", TARGET, METRIC), record(make, "retrain", RETRAINED, SELF))
        == []
    )


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"stderr": 5.0}, "metrics.privleak.stderr: 5.0, the answers give 49.690399"),
        ({"stderr": None}, "metrics.privleak.stderr: None, the answers give 49.690399"),
        ({"low": -50.0}, "metrics.privleak.low: -50.0, the answers give -100.0"),
        ({"high": None}, "metrics.privleak.high: None, the answers give 33.333333"),
    ],
)
def test_other_errors_are_named(make: Any, changes: dict[str, Any], expected: str) -> None:
    metric = METRIC.model_copy(update=changes)
    found = findings(
        record(make, "target", TARGET, metric), record(make, "retrain", RETRAINED, SELF)
    )
    assert found == [f"problem: target-none: {expected}"]


def test_other_error_of_the_zero_is_named(make: Any) -> None:
    found = findings(
        record(make, "target", TARGET, METRIC, auc_error=0.1),
        record(make, "retrain", RETRAINED, SELF),
    )
    assert found == ["problem: target-none: provenance.retrain_auc_stderr: 0.1, expected 0.353553"]


def test_other_zero_is_named(make: Any) -> None:
    """Wrong zero that all records share."""
    found = findings(
        record(make, "target", TARGET, METRIC, auc=0.5),
        record(make, "retrain", RETRAINED, SELF, auc=0.5),
    )
    text = "provenance.retrain_auc: 0.5, the retrained model's answers give 0.750000"
    assert found == [f"problem: {name}-none: {text}" for name in ("target", "retrain")]


def test_near_ties_of_a_second_measurement_are_allowed(make: Any) -> None:
    """Near-ties: the error, of another order of the texts, is not compared."""
    metric = METRIC.model_copy(update={"stderr": 48.0})
    records = [
        record(make, "target", TARGET, metric, auc=0.745),
        record(make, "retrain", RETRAINED, SELF, auc=0.745),
    ]
    assert findings(*records) == []


@pytest.mark.parametrize("other", ["quantized", "another model", "no examples", "none"])
def test_without_the_retrained_model_there_is_a_warning(make: Any, other: str) -> None:
    records = [record(make, "target", TARGET, METRIC)]
    retrained = record(
        make, "retrain", RETRAINED, SELF, "rtn-int4" if other == "quantized" else "none"
    )
    if other == "another model":
        model = {"model": ModelId(name="x", revision="x")}
        training = retrained.cell.training.model_copy(update=model)
        cell = retrained.cell.model_copy(update={"training": training})
        retrained = retrained.model_copy(update={"cell": cell})
    if other == "no examples":
        retrained = retrained.model_copy(update={"examples": {}})
    if other != "none":
        records.append(retrained)
    text = "privleak: not checked, without an unquantized record of the retrained model"
    assert findings(*records) == [
        f"warning: {r.cell.training.method}-{r.cell.precision}: {text}" for r in records
    ]


CONSTANT = RetrainAuc(source="published", value=0.5, model=None)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        (
            {"auc_error": 0.1},
            ["problem: target-none: provenance.retrain_auc_stderr: 0.1, expected 0.322749"],
        ),
        (
            {"metric": Metric(value=0.0, stderr=100.0, low=-100.0, high=100.0)},
            ["problem: target-none: metrics.privleak.stderr: 100.0, the answers give 119.023807"],
        ),
    ],
)
def test_constant_zero(make: Any, changes: dict[str, Any], expected: list[str]) -> None:
    """Hanley and McNeil's variance for A = 1/2 and two texts a side: (1/4 + 1/12 + 1/12) / 4.

    That is 0.322749². The target's AUC has the variance 1/4, and PrivLeak both times (100 / A)².
    """
    plain = {
        "metric": Metric(value=0.0, stderr=119.023807, low=-100.0, high=100.0),
        "auc": 0.5,
        "auc_error": 0.322749,
        "source": CONSTANT,
    }
    assert findings(record(make, "target", TARGET, **{**plain, **changes})) == expected


def test_zero_of_zero_ends_in_findings(make: Any) -> None:
    """Holdout texts all below forget texts: PrivLeak cannot be compared with an AUC of 0."""
    scores = {"privleak/holdout": (0.0, 1.0), "privleak/forget": (2.0, 3.0)}
    error = 1.0 * (1 - 0.025 ** (1 / 2)) / 1.959964
    records = [
        record(make, method, scores, SELF, auc=0.0, auc_error=error)
        for method in ("target", "retrain")
    ]
    assert findings(*records) == []


def test_nothing_is_said_without_a_zero(make: Any) -> None:
    records = [record(make, "target", TARGET, METRIC, auc=None)]
    assert findings(*records) == []
