"""Test for a difference of forget and holdout texts that needs no model.

With such a difference PrivLeak measures topics instead of membership.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...scoring import auc_and_stderr

MIN_TEXTS = 10
"""Minimum number of texts of each side."""
FOLDS = 5
MIN_GAP = 0.1
"""Distance of an AUC from 0.5 that counts, if it also exceeds two standard errors."""


@dataclass(frozen=True)
class Separation:
    """Separation of holdout from forget texts by one score.

    Attributes:
        auc: Area under the ROC curve; 0.5 if the score does not separate them.
        stderr: DeLong's standard error of the AUC.
    """

    auc: float
    stderr: float


@dataclass(frozen=True)
class Separability:
    """Separation of forget and holdout texts without a model.

    Attributes:
        words: By a linear classifier of words and length, cross-validated.
        length: By the number of characters alone.
        forget_words: Words that are the strongest evidence of forget.
        holdout_words: Words that are the strongest evidence of holdout.
    """

    words: Separation
    length: Separation
    forget_words: list[str]
    holdout_words: list[str]

    @property
    def by_words(self) -> bool:
        """True if words separate the sides; a classifier below 0.5 has found nothing."""
        return _is_far(self.words.auc - 0.5, self.words.stderr)

    @property
    def by_length(self) -> bool:
        """True if length separates the sides in either direction."""
        return _is_far(abs(self.length.auc - 0.5), self.length.stderr)


def measure_separability(forget: Sequence[str], holdout: Sequence[str]) -> Separability | None:
    """Measure the separation of two sets of texts; None with fewer than ten texts of either.

    Args:
        forget: One text per document; the names in a document would identify its other parts.
        holdout: One text per document.
    """
    if min(len(forget), len(holdout)) < MIN_TEXTS:
        return None
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline, make_union
    from sklearn.preprocessing import FunctionTransformer, StandardScaler

    words = TfidfVectorizer(token_pattern=r"\w+|[^\w\s]", sublinear_tf=True)
    length = make_pipeline(FunctionTransformer(_lengths), StandardScaler())
    classifier = make_pipeline(make_union(words, length), LogisticRegression(max_iter=1000))
    texts = [*holdout, *forget]
    is_holdout = np.array([True] * len(holdout) + [False] * len(forget))
    scores = cross_val_predict(
        classifier,
        texts,
        is_holdout,
        cv=StratifiedKFold(FOLDS),
        method="decision_function",
    )
    classifier.fit(texts, is_holdout)
    weights = classifier[-1].coef_[0][:-1]  # the last weight is that of the length
    names = words.get_feature_names_out()
    evidence = [str(names[i]) for i in np.argsort(weights, kind="stable") if names[i].isalpha()]
    characters = _lengths(texts)[:, 0]
    return Separability(
        words=_separation(scores, is_holdout),
        length=_separation(characters, is_holdout),
        forget_words=evidence[:5],
        holdout_words=evidence[:-6:-1],
    )


def _is_far(distance: float, stderr: float) -> bool:
    return distance >= MIN_GAP and distance > 2 * stderr


def _lengths(texts: Sequence[str]) -> np.ndarray:
    return np.array([[float(len(text))] for text in texts])


def _separation(scores: np.ndarray, is_holdout: np.ndarray) -> Separation:
    auc, stderr = auc_and_stderr(scores[is_holdout].tolist(), scores[~is_holdout].tolist())
    # rounded: the last digits of a fit depend on the machine
    return Separation(round(auc, 4), round(stderr, 4))
