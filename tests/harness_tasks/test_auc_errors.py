"""Errors and intervals of AUCs and means, by hand and against independent references."""

import math
from statistics import fmean

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

from harness_tasks import scoring

POSITIVES = [[3, 1], [1, 3]]
NEGATIVES = [[2, 1], [2, 0]]
"""Two scorers of the same two positives and two negatives.

The first: wins of each positive 1, 1/4; over each negative 1/2, 3/4; AUC 5/8.
The second: wins of each positive 1/2, 1; over each negative 1/2, 1; AUC 3/4.
"""


def slow_delong(
    positives: list[list[float]], negatives: list[list[float]]
) -> tuple[list[float], list[list[float]]]:
    """AUCs and covariance as DeLong et al. write them, in loops over pairs of texts."""

    def psi(high: float, low: float) -> float:
        return 1.0 if high > low else 0.5 if high == low else 0.0

    scorers = range(len(positives))
    m, n = len(positives[0]), len(negatives[0])
    v10 = [[fmean(psi(x, y) for y in negatives[r]) for x in positives[r]] for r in scorers]
    v01 = [[fmean(psi(x, y) for x in positives[r]) for y in negatives[r]] for r in scorers]
    aucs = [fmean(row) for row in v10]

    def covariance(rows: list[list[float]], r: int, s: int, count: int) -> float:
        products = [(rows[r][i] - aucs[r]) * (rows[s][i] - aucs[s]) for i in range(count)]
        return sum(products) / (count - 1)

    matrix = [
        [covariance(v10, r, s, m) / m + covariance(v01, r, s, n) / n for s in scorers]
        for r in scorers
    ]
    return aucs, matrix


def test_delong_by_hand() -> None:
    """Variances of the wins: 9/32 and 1/32; 1/8 and 1/8. Covariances: −3/16 and 1/16.

    Halved and added: 10/64, 1/8, and −1/16 between the two.
    """
    aucs, covariance = scoring.delong(POSITIVES, NEGATIVES)
    assert aucs.tolist() == [5 / 8, 3 / 4]
    assert covariance.tolist() == [[10 / 64, -1 / 16], [-1 / 16, 1 / 8]]


@pytest.mark.parametrize("decimals", [1, 8])
def test_delong_against_loops_and_scikit_learn(decimals: int) -> None:
    """Three scorers that agree in part; with one decimal there are ties."""
    generator = np.random.default_rng(3)
    shared = generator.normal(size=60)
    scores = np.array([shared + generator.normal(size=60) for _ in range(3)]).round(decimals)
    high, low = (scores[:, :25] + 0.5).round(decimals), scores[:, 25:]
    aucs, covariance = scoring.delong(high.tolist(), low.tolist())
    expected_aucs, expected = slow_delong(high.tolist(), low.tolist())
    assert aucs == pytest.approx(expected_aucs)
    assert covariance == pytest.approx(np.array(expected))
    assert (covariance == covariance.T).all()
    labels = [1] * 25 + [0] * 35
    for scorer in range(3):
        own = [*high[scorer], *low[scorer]]
        assert aucs[scorer] == pytest.approx(roc_auc_score(labels, own))
        area, error = scoring.auc_and_stderr(high[scorer], low[scorer])
        assert area == pytest.approx(aucs[scorer])
        assert error == pytest.approx(math.sqrt(expected[scorer][scorer]))


def test_delong_of_few_and_broken_scores() -> None:
    aucs, covariance = scoring.delong([[1.0], [0.0]], [[0.0, 2.0], [-1.0, -math.inf]])
    assert aucs.tolist() == [0.5, 1]
    assert np.isnan(covariance).all()
    with pytest.raises(ValueError, match="at least one positive"):
        scoring.delong([[], []], [[1.0], [1.0]])
    with pytest.raises(ValueError, match="found NaN"):
        scoring.delong([[1.0], [1.0]], [[1.0], [math.nan]])


def test_hanley_mcneil_by_hand() -> None:
    """At an AUC of 1/2, Q1 − A² and Q2 − A² are 1/12: (1/4 + 3/12 + 3/12) / 16 with 4 and 4 texts.

    In general it is there the null error of the Mann-Whitney test, (m + n + 1) / 12mn.
    """
    assert scoring.hanley_mcneil_stderr(0.5, 4, 4) == pytest.approx(math.sqrt(3) / 8)
    expected = math.sqrt((30 + 50 + 1) / (12 * 30 * 50))
    assert scoring.hanley_mcneil_stderr(0.5, 30, 50) == pytest.approx(expected)
    assert scoring.hanley_mcneil_stderr(1, 4, 4) == scoring.hanley_mcneil_stderr(0, 4, 4) == 0


def test_hanley_mcneil_is_exact_for_exponential_scores() -> None:
    """Positives of mean 3, negatives of mean 1: AUC 3/4; the spread over 40,000 draws."""
    generator = np.random.default_rng(0)
    high = generator.exponential(3, (40_000, 5, 1))
    low = generator.exponential(1, (40_000, 1, 8))
    aucs = (high > low).mean(axis=(1, 2))
    assert aucs.mean() == pytest.approx(0.75, abs=0.003)
    assert scoring.hanley_mcneil_stderr(0.75, 5, 8) == pytest.approx(aucs.std(), rel=0.02)


def test_privleak_stderr_by_hand() -> None:
    """A = 5/8, A0 = 3/4, so A / A0 = 5/6; 10/64 + 2 · 5/6 · 1/16 + 25/36 · 1/8 = 25/72.

    Its root is 5 / (6 √2); times 100 / (3/4): 1000 / (9 √2).
    """
    error = scoring.privleak_stderr(*scoring.delong(POSITIVES, NEGATIVES))
    assert error == pytest.approx(1000 / (9 * math.sqrt(2)))


def test_privleak_of_the_retrained_model_has_no_error() -> None:
    generator = np.random.default_rng(1)
    for count in range(2, 40):
        own, other = generator.normal(size=count), generator.normal(size=count + 3)
        aucs, covariance = scoring.delong([own, own], [other, other])
        if aucs[1] > 0:
            assert scoring.privleak(*aucs) == 0
            assert scoring.privleak_stderr(aucs, covariance) == 0


def test_privleak_stderr_is_the_spread_over_samples() -> None:
    """A model and its retrained model share half of their variation over 60 and 60 texts."""
    generator = np.random.default_rng(5)

    def draw() -> tuple[np.ndarray, np.ndarray]:
        shared = generator.normal(size=120)
        model, zero = (shared + generator.normal(size=120) for _ in range(2))
        model[:60] -= 0.8
        return scoring.delong([model[:60], zero[:60]], [model[60:], zero[60:]])

    draws = [draw() for _ in range(1500)]
    values = [scoring.privleak(*aucs) for aucs, _ in draws]
    errors = [scoring.privleak_stderr(*drawn) for drawn in draws]
    assert fmean(errors) == pytest.approx(np.std(values), rel=0.06)


@pytest.mark.parametrize("count", [1, 2, 36])
def test_exact_width_is_clopper_pearsons(count: int) -> None:
    """Of 0 of n and of n of n."""
    none = binomtest(0, count).proportion_ci(method="exact")
    every = binomtest(count, count).proportion_ci(method="exact")
    assert scoring.exact_width(count) == pytest.approx(none.high)
    assert 1 - scoring.exact_width(count) == pytest.approx(every.low)


def test_exact_width_holds_where_texts_are_separated_by_chance() -> None:
    """12 and 12 texts at a true AUC of 0.97, distance √2 · Φ⁻¹(0.97) between two normals.

    Often they are separated, with an AUC of 1 and DeLong's error of 0.
    """
    generator = np.random.default_rng(2)
    separated = 0
    for _ in range(500):
        high, low = generator.normal(math.sqrt(2) * 1.8808, 1, 12), generator.normal(0, 1, 12)
        area, error = scoring.auc_and_stderr(high, low)
        if area == 1:
            assert error == 0
            separated += 1
    assert separated > 50
    assert 1 - scoring.exact_width(12) <= 0.97


def test_components_by_hand() -> None:
    """Positives 1 and 3 against negatives 0, 2, 3: wins 1, 0, 0 and 1, 1, ½."""
    area, of_positives, of_negatives = scoring.auc_components([1, 3], [0, 2, 3])
    assert area == pytest.approx(3.5 / 6)
    assert of_positives == pytest.approx([1 / 3, 2.5 / 3])
    assert of_negatives == pytest.approx([1, 0.5, 0.25])
