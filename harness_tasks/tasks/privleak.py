"""Aggregation of scores of single texts to AUC and PrivLeak."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .. import scoring
from ..errors import CorpusError


class Membership(NamedTuple):
    """Score of one text by a membership inference attack.

    Attributes:
        split: ``holdout`` (the positive class) or ``forget``.
        score: Score of the attack, higher for a text that the model knows.
        retrain_auc: AUC of the retrained model on all texts; None if PrivLeak is not computed.
        retrain_score: Score of the same text by the retrained model; None if unknown.
    """

    split: str
    score: float
    retrain_auc: float | None = None
    retrain_score: float | None = None


def auc(items: Sequence[Membership]) -> float | str:
    """Compute the AUC of holdout (positive) against forget texts, or return why it is undefined."""
    return _failure(items) or scoring.auc_and_stderr(*_scores(items))[0]


def auc_stderr(items: Sequence[Membership]) -> float | str:
    """Compute DeLong's standard error of the AUC, or return lm-eval's ``N/A``.

    It is undefined with fewer than two texts of a side. At an AUC of 0 or 1 it is left out, since
    DeLong's error of 0 would claim certainty.
    """
    if _failure(items):
        return "N/A"
    area, error = scoring.auc_and_stderr(*_scores(items))
    return "N/A" if area in (0, 1) or math.isnan(error) else error


def privleak(items: Sequence[Membership]) -> float | str:
    """Compute PrivLeak in percent, or return why it is undefined.

    The AUC of the retrained model is computed from its scores of these texts if every item has
    one; otherwise it is the constant of all texts.

    Raises:
        CorpusError: Neither is known.
    """
    if failure := _failure(items):
        return failure
    (area, retrain_auc), _ = _aucs(items)
    if retrain_auc in (0, 1):
        return (
            f"N/A: the retrain AUC on these {len(items)} texts is {retrain_auc:g}, to which no AUC "
            "can be compared; evaluate more texts"
        )
    return scoring.privleak(area, retrain_auc)


def privleak_stderr(items: Sequence[Membership]) -> float | str:
    """Compute the standard error of PrivLeak in percent, including the error of its zero.

    With the retrained model's scores of these texts, the covariance of both AUCs is DeLong's. A
    constant retrain AUC has the error of Hanley and McNeil for the numbers of these texts,
    independent of the other AUC. The result is ``N/A`` if PrivLeak or the AUC's error is undefined.

    Raises:
        CorpusError: The AUC of the retrained model is unknown.
    """
    if isinstance(privleak(items), str) or isinstance(auc_stderr(items), str):
        return "N/A"
    return scoring.privleak_stderr(*_aucs(items))


def _aucs(items: Sequence[Membership]) -> tuple[tuple[float, float], np.ndarray]:
    """Compute the AUCs of the model and the retrained model, and their (2, 2) covariance."""
    holdout, forget = _scores(items)
    retrained = [
        item._replace(score=item.retrain_score) for item in items if item.retrain_score is not None
    ]
    if len(retrained) == len(items):
        zero_holdout, zero_forget = _scores(retrained)
        areas, covariance = scoring.delong([holdout, zero_holdout], [forget, zero_forget])
        return (float(areas[0]), float(areas[1])), covariance
    constant = items[0].retrain_auc
    if constant is None:
        raise CorpusError("PrivLeak needs the AUC of the retrained model")
    area, error = scoring.auc_and_stderr(holdout, forget)
    zero_error = scoring.hanley_mcneil_stderr(constant, len(holdout), len(forget))
    return (area, constant), np.diag([error**2, zero_error**2])


def _scores(items: Sequence[Membership]) -> tuple[list[float], list[float]]:
    """Return the scores of the holdout texts and of the forget texts."""
    return (
        [item.score for item in items if item.split == "holdout"],
        [item.score for item in items if item.split == "forget"],
    )


def _failure(items: Sequence[Membership]) -> str | None:
    """Return why these texts have no AUC; NaN must not count as forgetting."""
    if broken := sum(math.isnan(item.score) for item in items):
        return f"failed: NaN scores for {broken} of {len(items)} texts"
    if len({item.split for item in items}) < 2:
        return "N/A: needs forget and holdout texts"
    return None
