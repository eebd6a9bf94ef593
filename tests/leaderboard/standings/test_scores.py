"""Forgetting, gate, score and way back, worked out by hand."""

import math

import pytest

from leaderboard.standings.estimates import Estimate
from leaderboard.standings.scores import (
    combine,
    forgetting,
    forgot,
    untestable,
    way_back,
)

NAMES = ("verbmem", "knowmem", "privleak", "utility")


def estimates(*values: float, stderr: float | None = 1.0, of: str = "model") -> dict:
    return {
        name: Estimate(value, None if stderr is None else {(of, name): stderr})
        for name, value in zip(NAMES, values, strict=True)
    }


TARGET = estimates(100.0, 80.0, -100.0, 80.0, of="target")
RETRAIN = estimates(20.0, 30.0, 0.0, 78.0, of="retrain")


@pytest.mark.parametrize(
    ("metric", "value", "share"),
    [
        ("verbmem", 100.0, 0.0),
        ("verbmem", 60.0, 0.5),  # (100 - 60) / (100 - 20)
        ("verbmem", 20.0, 1.0),
        ("verbmem", 5.0, 1.0),  # less than the retrained model's is not better
        ("verbmem", 110.0, 0.0),
        ("privleak", -100.0, 0.0),
        ("privleak", -25.0, 0.75),
        ("privleak", 0.0, 1.0),
        ("privleak", 40.0, 0.6),  # beyond the retrained model's: 40 of 100 too far
        ("privleak", 150.0, 0.0),
    ],
)
def test_forgetting_by_hand(metric: str, value: float, share: float) -> None:
    found = forgetting(metric, Estimate(value, {}), TARGET[metric], RETRAIN[metric])
    assert found.value == pytest.approx(share)


@pytest.mark.parametrize(("metric", "value"), [("verbmem", 60.0), ("privleak", 40.0)])
def test_error_of_a_share_against_differences(metric: str, value: float) -> None:
    """The three derivatives, against the change that a small step of each number makes."""
    step = 1e-6
    numbers = [value, TARGET[metric].value, RETRAIN[metric].value]

    def share(x: list[float]) -> float:
        return forgetting(metric, *(Estimate(number, {}) for number in x)).value

    slopes = [
        (share([x + step * (i == j) for j, x in enumerate(numbers)]) - share(numbers)) / step
        for i in range(3)
    ]
    found = forgetting(metric, *(Estimate(x, {i: 2.0}) for i, x in enumerate(numbers)))
    assert found.stderr == pytest.approx(2 * math.hypot(*slopes), rel=1e-4)


def test_score_by_hand() -> None:
    """Shares 0.5, 0.8, 0.2: quality 0.5; utility 60 of 80: 0.75; harmonic 2·0.375/1.25 = 0.6."""
    scores = combine(estimates(60.0, 40.0, -80.0, 60.0), TARGET, RETRAIN)
    assert scores.forget_quality.value == pytest.approx(0.5)
    assert scores.score.value == pytest.approx(60.0)


def test_error_of_forget_quality_by_hand() -> None:
    """Error 1 of each number; shares 0.5, 0.8, 0.2 of ways 80, 50, −100.

    A share s of a way w has the variance (1 + (1 − s)² + s²) / w²:
    1.5/6400, 1.68/2500 and 1.68/10000; a third of the root of their sum.
    """
    scores = combine(estimates(60.0, 40.0, -80.0, 60.0), TARGET, RETRAIN)
    variance = 1.5 / 6400 + 1.68 / 2500 + 1.68 / 10000
    assert scores.forget_quality.stderr == pytest.approx(math.sqrt(variance) / 3)
    assert scores.score.stderr > 0


def test_utility_above_the_targets_counts_once() -> None:
    scores = combine(estimates(20.0, 30.0, 0.0, 95.0), TARGET, RETRAIN)
    assert scores.score.value == pytest.approx(100.0)


def test_gate_needs_both_verbmem_and_knowmem() -> None:
    assert forgot(estimates(20.0, 56.0, 0.0, 80.0), TARGET, RETRAIN) is False  # 24 of 50
    assert forgot(estimates(20.0, 55.0, 0.0, 80.0), TARGET, RETRAIN) is True


def test_collapsed_model_scores_nothing() -> None:
    scores = combine(estimates(0.0, 0.0, 0.0, 0.0), TARGET, RETRAIN)
    assert scores.forget_quality.value == 1.0
    assert scores.score.value == 0.0


def test_a_hole_leaves_no_average() -> None:
    cell = estimates(60.0, 40.0, 0.0, 60.0)
    del cell["privleak"]
    assert combine(cell, TARGET, RETRAIN) == combine({}, TARGET, RETRAIN)
    assert combine(cell, TARGET, RETRAIN).score is None
    assert forgot(cell, TARGET, RETRAIN) is True


def test_references_that_cannot_be_told_apart() -> None:
    """VerbMem 18.2 and 14.4 with errors of 1.5 and 1.5: 3.8 is less than 2 · 2.12."""
    target = estimates(18.2, 80.0, -100.0, 80.0, stderr=1.5, of="target")
    retrain = estimates(14.4, 30.0, 0.0, 78.0, stderr=1.5, of="retrain")
    reason = untestable(target, retrain, NAMES[:3])
    assert reason == (
        "target and retrain differ by less than 2 standard errors in VerbMem (18.2 and 14.4)"
    )
    cell = estimates(15.0, 40.0, -80.0, 60.0)
    assert combine(cell, target, retrain).score is None
    assert forgot(cell, target, retrain) is None


def test_references_without_errors_are_not_judged() -> None:
    target = estimates(100.0, 80.0, -100.0, 80.0, stderr=None)
    assert "no standard error of VerbMem" in untestable(target, RETRAIN, ("verbmem",))
    assert untestable({}, RETRAIN, ("verbmem",)) == "no VerbMem of the target model"
    assert untestable(TARGET, {}, ("verbmem",)) == "no VerbMem of the retrain model"


def test_a_target_that_remembers_less_is_not_judged() -> None:
    assert untestable(RETRAIN, TARGET, ("knowmem",)) is not None
    assert untestable(RETRAIN, TARGET, ("privleak",)) is not None


def back(quantized: float, unquantized: float, target: float, error: float = 1.0) -> float | None:
    numbers = (quantized, unquantized, target)
    return way_back("verbmem", *(Estimate(x, {i: error}) for i, x in enumerate(numbers)))


def test_way_back_by_hand() -> None:
    """From 30 to 45 of the 60 points between 30 and the target's 90."""
    assert back(45.0, 30.0, 90.0) == pytest.approx(0.25)
    assert back(20.0, 30.0, 90.0) == pytest.approx(-10 / 60)


@pytest.mark.parametrize(
    ("quantized", "unquantized", "target"),
    [
        (30.0, 40.0, 18.0),  # the target lost its text: 4 bits, not recovery
        (99.5, 60.0, 60.5),  # close to the target, 1.4 errors
        (45.0, 90.0, 90.0),
    ],
)
def test_no_way_back_if_the_target_remembers_no_more(quantized, unquantized, target) -> None:
    assert back(quantized, unquantized, target) is None


def test_way_back_is_negative_if_the_score_fell() -> None:
    for target in range(0, 101, 5):
        for quantized in range(0, 40, 5):
            share = back(float(quantized), 40.0, float(target))
            assert share is None or share < 0


def test_way_back_of_privleak_goes_down() -> None:
    """From −20 to −60, half of the way to the target's −100."""
    numbers = [Estimate(x, {i: 1.0}) for i, x in enumerate((-60.0, -20.0, -100.0))]
    assert way_back("privleak", *numbers) == pytest.approx(0.5)
    forgotten = [Estimate(x, {i: 1.0}) for i, x in enumerate((-60.0, -20.0, -10.0))]
    assert way_back("privleak", *forgotten) is None
