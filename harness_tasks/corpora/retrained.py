"""Scores of the retrained model per text: the zero of PrivLeak on any choice of texts."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import CorpusError
from ..scoring import auc_and_stderr
from .rows import printable

RetrainScores = dict[str, list[float]]
"""Min-40% scores by ``forget`` and ``holdout``, in the order of the texts."""

SPLITS = ("forget", "holdout")
TOLERANCE = 1e-6
"""Largest difference between the AUC in a file and that of the scores in it."""


def checked_scores(content: Any, path: Path, count_texts: Callable[[str], int]) -> RetrainScores:
    """Check the scores in the content of a file.

    Args:
        content: Parsed file, ``{"scores": {"forget": […], "holdout": […]}}``.
        path: Path of the file, for messages.
        count_texts: Function from a split of ``privleak`` to its number of texts.

    Returns:
        Min-40% scores by split.

    Raises:
        CorpusError: The content has another shape, a score is not a finite number, or the number
            of scores differs from that of the texts.
    """
    scores = content.get("scores") if isinstance(content, dict) else None
    if not isinstance(scores, dict) or not all(isinstance(scores.get(s), list) for s in SPLITS):
        raise CorpusError(
            f'{path}: expected {{"scores": {{"forget": <list of numbers>, "holdout": <list of '
            f"numbers>}}}}, found {printable(repr(content))}"
        )
    for split in SPLITS:
        for number, score in enumerate(scores[split]):
            if not _is_finite(score):
                raise CorpusError(
                    f"{path}: scores/{split}, entry {number}, is not a finite number but "
                    f"{printable(repr(score))}"
                )
        if len(scores[split]) != (texts := count_texts(split)):
            raise CorpusError(
                f"{path}: scores/{split} has {len(scores[split])} scores, privleak/{split} has "
                f"{texts} texts: measure the retrained model on these texts"
            )
    return {split: [float(score) for score in scores[split]] for split in SPLITS}


def scores_auc(scores: RetrainScores) -> float:
    """Compute the AUC of holdout (positive) against forget texts."""
    return auc_and_stderr(scores["holdout"], scores["forget"])[0]


def check_auc(scores: RetrainScores, retrain_auc: float, path: Path) -> None:
    """Refuse a file whose AUC differs from that of its scores.

    Args:
        scores: Min-40% scores by split.
        retrain_auc: AUC in the file, between 0 and 1.
        path: Path of the file, for messages.

    Raises:
        CorpusError: The two differ by more than ``TOLERANCE``.
    """
    if abs((auc := scores_auc(scores)) - retrain_auc) > TOLERANCE:
        raise CorpusError(
            f"{path}: retrain_auc is {retrain_auc:.7g}, the AUC of its scores is {auc:.7g}: "
            "measure again"
        )


def _is_finite(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond all floats
        return False
