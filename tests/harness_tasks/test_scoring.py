"""Scores against values worked out by hand and against scikit-learn."""

import math

import numpy as np
import pytest
from scipy.stats import bootstrap
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
