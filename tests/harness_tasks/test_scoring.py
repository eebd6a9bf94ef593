"""Scores and their errors against values worked out by hand and independent references."""

import math
from statistics import fmean

import numpy as np
import pytest
from scipy.stats import binomtest, bootstrap
from sklearn.metrics import roc_auc_score

from harness_tasks import scoring


def test_rouge_l_by_hand() -> None:
    """Response ``the red cat sat`` (4 words), reference ``the cat sat down there`` (5).

    Longest common subsequence ``the cat sat``: precision 3/4, recall 3/5,
    F = 2 · 3/4 · 3/5 / (3/4 + 3/5) = 2/3.
    """
    assert scoring.rouge_l("The red cat sat.", "the cat sat down there") == pytest.approx(2 / 3)


def test_rouge_l_does_not_stem() -> None:
    assert scoring.rouge_l("walking", "walked") == 0
    assert scoring.rouge_l("", "anything") == 0


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        ("Paris\n\nQuestion: more", "Paris"),
        ("Paris\nQuestion", "Paris"),
        ("Question: at once", ""),
        ("a Question: b\n\nc", "a "),
        ("Paris\nand London", "Paris\nand London"),
    ],
)
def test_cut_at_the_first_stop(text: str, cut: str) -> None:
    assert scoring.cut_at(text, ["\n\n", "\nQuestion", "Question:"]) == cut


def test_min_k_by_hand() -> None:
    """Seven values: int(0.4 · 7) = 2 lowest, (−5 − 3) / 2 = −4."""
    assert scoring.min_k([-1, -5, -0.5, -3, -2, -0.1, -0.2]) == -4


def test_min_k_of_short_and_broken_texts() -> None:
    assert scoring.min_k([-2.5, -1.0]) == -2.5  # int(0.8) is 0, one token is taken
    assert scoring.min_k([-1.0, -math.inf, -2.0]) == -math.inf
    assert math.isnan(scoring.min_k([-1.0, -2.0, math.nan]))
    with pytest.raises(ValueError, match="at least one scored token"):
        scoring.min_k([])


def test_auc_and_its_error_by_hand() -> None:
    """Positives 3, 1; negatives 2, 1. Wins: 3>2, 3>1, 1<2, 1=1: (1 + 1 + 0 + 1/2) / 4 = 5/8.

    Of each positive: 1, 1/4 (variance 9/32); of each negative: 1/2, 3/4 (variance 1/32).
    Error: sqrt(9/64 + 1/64) = sqrt(10)/8.
    """
    area, error = scoring.auc_and_stderr([3, 1], [2, 1])
    assert area == 5 / 8
    assert error == pytest.approx(math.sqrt(10) / 8)


def test_auc_is_scikit_learns() -> None:
    generator = np.random.default_rng(0)
    high = generator.normal(0.3, 1, 70).round(1)  # rounded: ties
    low = generator.normal(0, 1, 90).round(1)
    area, _ = scoring.auc_and_stderr(high, low)
    labels = [1] * 70 + [0] * 90
    assert area == pytest.approx(roc_auc_score(labels, [*high, *low]))


def test_delong_error_is_the_bootstraps() -> None:
    generator = np.random.default_rng(1)
    high, low = generator.normal(0.5, 1, 100), generator.normal(0, 1, 100)
    _, error = scoring.auc_and_stderr(high, low)
    resampled = bootstrap(
        (high, low),
        lambda a, b: scoring.auc_and_stderr(a, b)[0],
        n_resamples=2000,
        vectorized=False,
        method="percentile",
        rng=generator,
    )
    assert error == pytest.approx(resampled.standard_error, rel=0.05)


def test_auc_of_few_infinite_and_broken_scores() -> None:
    assert scoring.auc_and_stderr([-math.inf], [-math.inf])[0] == 0.5
    assert math.isnan(scoring.auc_and_stderr([1.0], [0.0, 2.0])[1])
    with pytest.raises(ValueError, match="at least one positive"):
        scoring.auc_and_stderr([], [1.0])
    with pytest.raises(ValueError, match="found NaN"):
        scoring.auc_and_stderr([math.nan], [1.0])


def test_privleak_by_hand() -> None:
    """On News: −100 at AUC 0, 0 at the retrained model's AUC, +109.6 at AUC 1."""
    assert scoring.privleak(0, 0.4772) == -100
    assert scoring.privleak(0.4772, 0.4772) == 0
    assert scoring.privleak(1, 0.4772) == pytest.approx(109.556, abs=1e-3)


def test_min_k_plus_plus_by_hand() -> None:
    """Standardised: (−3 + 1) / 2 = −1, (−2 + 1) / 0.5 = −2, 0 where the deviation is 0.

    int(0.7 · 3) = 2 lowest: −1.5.
    """
    assert scoring.min_k_plus_plus([-3, -2, -9], [-1, -1, 0], [2, 0.5, 0], 0.7) == -1.5


def test_attacks_by_hand() -> None:
    """Loss 2, in lower case 4; zlib makes 13 bytes of ``abcde`` (no gain, 8 bytes of frame)."""
    scores = scoring.attacks("abcde", [-1, -3], [-4, -4], [-1, -1], [1, 2])
    assert scores["loss"] == -2
    assert scores["lower"] == -0.5
    assert scores["zlib"] == pytest.approx(-2 / 13)
    assert scores["min_60"] == -3
    assert scores["min_20_plus_plus"] == -1


def test_memorization_by_hand() -> None:
    """Of five tokens, four right, the last three in a row."""
    greedy = [True, False, True, True, True]
    assert scoring.exact_memorization(greedy) == 0.8
    assert scoring.extraction_strength(greedy) == 0.6
    assert scoring.extraction_strength([True, False]) == 0
    assert scoring.extraction_strength([True, True]) == 1


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
    """The bounds are those of 0 of n and n of n successes."""
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
