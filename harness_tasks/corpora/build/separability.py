"""Can forget and holdout texts be told apart without any model? Then PrivLeak measures topics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...scoring import auc_and_stderr

FEWEST = 10
"""Texts of each side below which nothing is said."""
FOLDS = 5
FAR = 0.1
"""Distance from 0.5 that matters, where it is also above two standard errors."""


@dataclass(frozen=True)
class Separation:
    """How well something tells holdout from forget texts.

    Attributes:
        auc: 0.5 where it cannot.
        stderr: DeLong's.
    """

    auc: float
    stderr: float


@dataclass(frozen=True)
class Blind:
    """What can be told without a model.

    Attributes:
        words: by a linear classifier of words and length, on texts it was not fitted to.
        length: by the number of characters alone.
        forget_words: the words that speak most for forget.
        holdout_words: the words that speak most for holdout.
    """

    words: Separation
    length: Separation
    forget_words: list[str]
    holdout_words: list[str]

    @property
    def by_words(self) -> bool:
        """Whether words tell; a fitted classifier below 0.5 has found nothing."""
        return _far(self.words.auc - 0.5, self.words.stderr)

    @property
    def by_length(self) -> bool:
        """Whether length tells, longer or shorter."""
        return _far(abs(self.length.auc - 0.5), self.length.stderr)


def blind(forget: Sequence[str], holdout: Sequence[str]) -> Blind | None:
    """Measure it; None with fewer than ten texts of either.

    Args:
        forget: texts, each from another document: two parts of one would be told by its names.
        holdout: likewise.
    """
    if min(len(forget), len(holdout)) < FEWEST:
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
    weights = classifier[-1].coef_[0][:-1]  # the last is the length's
    names = words.get_feature_names_out()
    telling = [str(names[i]) for i in np.argsort(weights, kind="stable") if names[i].isalpha()]
    characters = _lengths(texts)[:, 0]
    return Blind(
        words=_separation(scores, is_holdout),
        length=_separation(characters, is_holdout),
        forget_words=telling[:5],
        holdout_words=telling[:-6:-1],
    )


def _far(distance: float, stderr: float) -> bool:
    return distance >= FAR and distance > 2 * stderr


def _lengths(texts: Sequence[str]) -> np.ndarray:
    return np.array([[float(len(text))] for text in texts])


def _separation(scores: np.ndarray, is_holdout: np.ndarray) -> Separation:
    auc, stderr = auc_and_stderr(scores[is_holdout].tolist(), scores[~is_holdout].tolist())
    # rounded: the last digits of a fit depend on the machine
    return Separation(round(auc, 4), round(stderr, 4))
