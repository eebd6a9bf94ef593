"""Conclusions from the metrics of a grid: forgetting, recovery, and one score.

Everything is measured between two reference rows of the same corpus at the same precision: the
target model, which has forgotten nothing, and the retrained model, which never saw the forget set.
Where these two cannot be told apart, or something is missing, there is no number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .estimates import Estimate, linear

Estimates = Mapping[str, Estimate]
"""Metrics by name; one without a number is missing."""

FORGETTING = ("verbmem", "knowmem", "privleak")
GATED = ("verbmem", "knowmem")
GATE = 0.5
"""Share of the way from target to retrain that VerbMem and KnowMem must have gone."""
TESTABLE = 2.0
"""Standard errors of their difference by which target and retrain must differ."""
NAMES = {"verbmem": "VerbMem", "knowmem": "KnowMem", "privleak": "PrivLeak", "utility": "Utility"}


@dataclass(frozen=True)
class Scores:
    """Derived numbers of one checkpoint at one precision.

    Attributes:
        forget_quality: mean of the three shares of forgetting, 0 (target) to 1 (retrain).
        score: harmonic mean of forget quality and utility relative to the target's (at most 1),
            × 100.
    """

    forget_quality: Estimate | None
    score: Estimate | None


def untestable(target: Estimates, retrain: Estimates, metrics: tuple[str, ...]) -> str | None:
    """Explain why forgetting cannot be judged against these references; None where it can.

    Args:
        target: metrics of the target model at a precision.
        retrain: those of the retrained model.
        metrics: the ones that the judgement needs.
    """
    for metric in metrics:
        if metric not in target or metric not in retrain:
            role = "retrain" if metric in target else "target"
            return f"no {NAMES[metric]} of the {role} model"
        more, less = target[metric], retrain[metric]
        if metric == "privleak":  # the target's is the lower one
            more, less = less, more
        apart = more.exceeds(less, TESTABLE)
        if apart is None:
            return f"no standard error of {NAMES[metric]} of target and retrain"
        if not apart:
            return (
                f"target and retrain differ by less than {TESTABLE:g} standard errors in "
                f"{NAMES[metric]} ({target[metric].value:.1f} and {retrain[metric].value:.1f})"
            )
    return None


def forgetting(metric: str, value: Estimate, target: Estimate, retrain: Estimate) -> Estimate:
    """Share of the way from target (0) to retrain (1) that a metric went, clipped.

    VerbMem and KnowMem below the retrained model's count as 1. PrivLeak is best *at* the
    retrained model's: beyond it, on the other side, the share falls again.
    """
    way = target.value - retrain.value
    share = (target.value - value.value) / way
    folded = metric == "privleak" and share > 1
    result, sign = (2 - share, -1.0) if folded else (share, 1.0)
    if not 0 < result < 1:
        return Estimate(min(max(result, 0.0), 1.0), {})
    derivatives = (-sign / way, sign * (1 - share) / way, sign * share / way)
    return linear(result, zip(derivatives, (value, target, retrain), strict=True))


def combine(cell: Estimates, target: Estimates, retrain: Estimates) -> Scores:
    """Compute forget quality and score against references that can be told apart."""
    if untestable(target, retrain, FORGETTING) or any(m not in cell for m in FORGETTING):
        return Scores(None, None)
    shares = [forgetting(m, cell[m], target[m], retrain[m]) for m in FORGETTING]
    count = len(shares)
    quality = linear(sum(s.value for s in shares) / count, [(1 / count, s) for s in shares])
    return Scores(quality, _score(quality, cell.get("utility"), target.get("utility")))


def _score(quality: Estimate, utility: Estimate | None, full: Estimate | None) -> Estimate | None:
    if utility is None or full is None or full.value <= 0:
        return None
    kept = Estimate(1.0, {})
    if utility.value < full.value:
        ratio = utility.value / full.value
        kept = linear(ratio, [(1 / full.value, utility), (-ratio / full.value, full)])
    total = quality.value + kept.value
    if quality.value <= 0 or kept.value <= 0:
        return Estimate(0.0, {})
    return linear(
        200 * quality.value * kept.value / total,
        [(200 * kept.value**2 / total**2, quality), (200 * quality.value**2 / total**2, kept)],
    )


def forgot(cell: Estimates, target: Estimates, retrain: Estimates) -> bool | None:
    """Decide the gate: VerbMem and KnowMem both went at least half of the way.

    Args:
        cell: metrics of the unquantized checkpoint.
        target: those of the target model, unquantized.
        retrain: those of the retrained model, unquantized.

    Returns:
        None where the references cannot be told apart or a number is missing.
    """
    if untestable(target, retrain, GATED) or any(metric not in cell for metric in GATED):
        return None
    return all(forgetting(m, cell[m], target[m], retrain[m]).value >= GATE for m in GATED)


def way_back(
    metric: str, quantized: Estimate, unquantized: Estimate, target: Estimate
) -> float | None:
    """Recovery as a share of the way back to the target under the same quantizer.

    0: as unlearned as before quantization; 1: the target's value; below 0: even less is left.

    Args:
        metric: name of the metric.
        quantized: the unlearned model at a precision.
        unquantized: the same model before quantization.
        target: the target model at that precision.

    Returns:
        None unless the target remembers more than the unquantized model, by more than the standard
        error of their difference: elsewhere there is no way back.
    """
    more, less = (unquantized, target) if metric == "privleak" else (target, unquantized)
    if not more.exceeds(less, 1.0) or more.value <= less.value:
        return None
    return (quantized.value - unquantized.value) / (target.value - unquantized.value)
