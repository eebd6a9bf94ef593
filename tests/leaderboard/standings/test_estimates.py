"""Errors of scores, of their differences and of derived numbers."""

import math
from statistics import stdev

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from harness_tasks import scoring
from leaderboard.records.schema import ExampleScores, Metric
from leaderboard.standings.estimates import (
    Estimate,
    Z,
    linear,
    mean_over_seeds,
    measured_metric,
    of_auc,
    of_metric,
    of_privleak,
    of_scores,
)


def scores(*values: float | None, documents: tuple[str, ...] | None = None) -> ExampleScores:
    return ExampleScores(examples=tuple(range(len(values))), scores=values, documents=documents)


def test_mean_by_hand() -> None:
    """40, 60, 80: mean 60, SD 20, standard error 20 / √3."""
    estimate = of_scores("verbmem", scores(40.0, 60.0, 80.0))
    assert estimate.value == 60
    assert estimate.stderr == pytest.approx(20 / math.sqrt(3))


def test_questions_of_one_document_are_one_observation() -> None:
    """Documents with means 100, 100, 0, 0 of two equal questions each: SE of 4 values, not of 8.

    Four values 100, 100, 0, 0 have SD √(4 · 2500 / 3) = 57.735 and SE 28.868.
    """
    values = (100.0, 100.0, 100.0, 100.0, 0.0, 0.0, 0.0, 0.0)
    documents = ("a", "a", "b", "b", "c", "c", "d", "d")
    estimate = of_scores("knowmem", scores(*values, documents=documents))
    assert estimate.stderr == pytest.approx(28.8675, abs=1e-4)
    assert of_scores("knowmem", scores(*values)).stderr == pytest.approx(
        stdev(values) / math.sqrt(8)
    )


def test_difference_is_paired() -> None:
    """10, 50, 90 against 12, 53, 91: differences 2, 3, 1, mean 2, SD 1, SE 1 / √3."""
    before = of_scores("verbmem", scores(10.0, 50.0, 90.0))
    after = of_scores("verbmem", scores(12.0, 53.0, 91.0))
    difference = after - before
    assert difference.value == pytest.approx(2)
    assert difference.stderr == pytest.approx(1 / math.sqrt(3))
    apart = math.hypot(before.stderr, after.stderr)
    assert apart > 30  # the error of unpaired scores


def test_equal_examples_tell_no_error_but_a_bound() -> None:
    """30 answers of 100: the share that scores less is below 1 − 0.025^(1/30) = 11.6%."""
    estimate = of_scores("knowmem", scores(*[100.0] * 30))
    assert estimate.is_edge
    assert estimate.stderr == pytest.approx(100 * (1 - 0.025 ** (1 / 30)) / Z)
    metric = measured_metric("knowmem", 100.0, {"knowmem": scores(*[100.0] * 30)}, None)
    assert metric.stderr is None
    assert (metric.low, metric.high) == (pytest.approx(88.43, abs=0.01), 100)


def test_no_difference_on_any_document_is_not_certainty() -> None:
    """12 documents that score as before: up to 1 − 0.025^(1/12) = 26.5% of others may change."""
    before = of_scores("verbmem", scores(*range(12)))
    difference = before - before
    assert difference.value == 0
    assert difference.is_edge
    assert difference.stderr * Z == pytest.approx(26.46, abs=0.01)


@pytest.fixture
def texts() -> tuple[ExampleScores, ExampleScores, ExampleScores, ExampleScores]:
    """Forget and holdout scores of two models on the same 30 + 20 texts."""
    random = np.random.default_rng(3)
    forget, holdout = random.normal(0, 1, 30), random.normal(0.8, 1, 20)
    return (
        scores(*forget.tolist()),
        scores(*holdout.tolist()),
        scores(*(forget + random.normal(0, 0.5, 30)).tolist()),
        scores(*(holdout + random.normal(0, 0.5, 20)).tolist()),
    )


def test_auc_is_delongs(texts) -> None:
    """Value as scikit-learn's, error and covariance as `scoring.delong` computes them."""
    forget, holdout, other_forget, other_holdout = texts
    one, other = of_auc(forget, holdout), of_auc(other_forget, other_holdout)
    labels = [1] * 20 + [0] * 30
    assert one.value == pytest.approx(roc_auc_score(labels, [*holdout.scores, *forget.scores]))
    _, covariance = scoring.delong(
        [holdout.scores, other_holdout.scores], [forget.scores, other_forget.scores]
    )
    assert one.stderr == pytest.approx(math.sqrt(covariance[0, 0]))
    difference = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    assert (one - other).stderr == pytest.approx(math.sqrt(difference))


def test_privleak_has_the_error_of_its_zero(texts) -> None:
    forget, holdout, other_forget, other_holdout = texts
    auc, zero = of_auc(forget, holdout), of_auc(other_forget, other_holdout)
    estimate = of_privleak(auc, zero)
    aucs, covariance = scoring.delong(
        [holdout.scores, other_holdout.scores], [forget.scores, other_forget.scores]
    )
    assert estimate.value == pytest.approx(scoring.privleak(*aucs))
    assert estimate.stderr == pytest.approx(scoring.privleak_stderr(aucs, covariance))
    independent = of_privleak(auc, Estimate(zero.value, {("retrain_auc",): zero.stderr}))
    assert independent.stderr > estimate.stderr


def test_privleak_of_the_retrained_model_is_zero_by_definition(texts) -> None:
    auc = of_auc(*texts[:2])
    estimate = of_privleak(auc, auc)
    assert (estimate.value, estimate.stderr) == (0, None)


def test_a_perfect_auc_is_not_certain() -> None:
    """15 and 15 texts: the AUC may be 0.025^(1/15) = 0.782 with 97.5% confidence."""
    forget, holdout = scores(*[-1.0] * 15), scores(*[1.0] * 15)
    auc = of_auc(forget, holdout)
    assert auc.value == 1
    assert 1 - Z * auc.stderr == pytest.approx(0.025 ** (1 / 15))
    examples = {"privleak/forget": holdout, "privleak/holdout": forget}
    metric = measured_metric("privleak", -100.0, examples, Estimate(0.5, {("zero",): 0.05}))
    assert metric.stderr is None
    assert metric.low == -100
    assert metric.high > -60


def test_nan_leaves_no_error() -> None:
    assert of_scores("verbmem", scores(1.0, None)) is None
    assert of_auc(scores(1.0, None), scores(1.0)) is None


def test_seeds_add_their_spread() -> None:
    """Two seeds with the same documents, means 50 and 54: 4² / 4 = 2² comes on top of the error."""
    one = of_scores("verbmem", scores(40.0, 60.0))
    other = of_scores("verbmem", scores(44.0, 64.0))
    mean = mean_over_seeds([one, other], "row")
    assert mean.value == 52
    assert mean.stderr == pytest.approx(math.hypot(one.stderr, 2))
    # a difference between seed-wise pairs has no part of it
    pairs = [one - one, other - other]
    assert mean_over_seeds(pairs, "difference").is_edge


def test_without_examples_errors_are_unrelated() -> None:
    one = of_metric("verbmem", Metric(value=50, stderr=3), "a")
    other = of_metric("verbmem", Metric(value=40, stderr=4), "b")
    assert (one - other).stderr == pytest.approx(5)
    bound = of_metric("verbmem", Metric(value=100, stderr=None, low=100 - 4 * Z, high=100), "c")
    assert (bound - one).stderr == pytest.approx(5)
    assert (bound - of_metric("verbmem", Metric(value=1, stderr=None), "d")).stderr is None


def test_linear_propagation_against_differences(texts) -> None:
    """The gradient of a product, against the change that each document makes."""
    one = of_scores("verbmem", texts[0])
    other = of_scores("verbmem", texts[2])
    product = linear(one.value * other.value, [(other.value, one), (one.value, other)])
    parts = {key: other.value * one.parts[key] + one.value * other.parts[key] for key in one.parts}
    assert product.stderr == pytest.approx(math.sqrt(sum(part**2 for part in parts.values())))


def test_exceeds() -> None:
    """60 ± 3 exceeds 50 ± 4 by 10 / 5 = 2 standard errors."""
    more = of_metric("verbmem", Metric(value=60, stderr=3), "a")
    less = of_metric("verbmem", Metric(value=50, stderr=4), "b")
    assert more.exceeds(less, 2)
    assert not more.exceeds(less, 2.01)
    assert more.exceeds(Estimate(0, None), 1) is None


def test_seeds_do_not_narrow_a_bound() -> None:
    """Three seeds with all answers at 100 and without scores of examples: one bound."""
    bound = Metric(value=100, stderr=None, low=100 - 4 * Z, high=100)
    seeds = [of_metric("knowmem", bound, "row") for _ in range(3)]
    mean = mean_over_seeds(seeds, "row")
    assert mean.is_edge
    assert mean.stderr == pytest.approx(4)
    apart = [*seeds[:2], of_metric("knowmem", Metric(value=97, stderr=4), "row")]
    assert mean_over_seeds(apart, "row").stderr == pytest.approx(
        math.hypot((4 + 4) / 3, 4 / 3, stdev([100, 100, 97]) / math.sqrt(3))
    )
