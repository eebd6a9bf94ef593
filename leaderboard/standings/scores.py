"""Forget quality, gate, score and recovery share from the metrics of a grid.

All of them are relative to two reference rows of the same corpus at the same precision: the target
model, which has forgotten nothing, and the retrained model, which never saw the forget set. There
is no number if these two cannot be told apart or if a metric is missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .estimates import Estimate, linear

Estimates = Mapping[str, Estimate]
"""Metrics by name, without those that have no number."""

FORGETTING = ("verbmem", "knowmem", "privleak")
GATED = ("verbmem", "knowmem")
GATE = 0.5
"""Minimum share of forgetting for VerbMem and for KnowMem."""
TESTABLE = 2.0
"""Minimum difference of target and retrain, in standard errors of the difference."""
NAMES = {"verbmem": "VerbMem", "knowmem": "KnowMem", "privleak": "PrivLeak", "utility": "Utility"}


@dataclass(frozen=True)
class Scores:
    """Derived numbers of a checkpoint at a precision; None if they cannot be computed.

    Attributes:
        forget_quality: Mean of the three shares of forgetting, 0 (target) to 1 (retrain).
        score: Harmonic mean, × 100, of forget quality and utility relative to the target (at
            most 1).
    """

    forget_quality: Estimate | None
    score: Estimate | None


def untestable(target: Estimates, retrain: Estimates, metrics: tuple[str, ...]) -> str | None:
    """Explain why forgetting cannot be measured against these references.

    Args:
        target: Metrics of the target model at a precision.
        retrain: Metrics of the retrained model at the same precision.
        metrics: Names of the metrics to compare.

    Returns:
        The reason; None if the references can be told apart.
    """
    for metric in metrics:
        if metric not in target or metric not in retrain:
            role = "retrain" if metric in target else "target"
            return f"no {NAMES[metric]} of the {role} model"
        more, less = target[metric], retrain[metric]
        if metric == "privleak":  # lower for the target
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
    """Share of forgetting in a metric, from the target (0) to the retrained model (1), clipped.

    VerbMem and KnowMem below those of the retrained model count as 1. PrivLeak is best at the value
    of the retrained model; beyond it the share falls again.

    Args:
        metric: Name of the metric.
        value: Metric of the unlearned model.
        target: Metric of the target model.
        retrain: Metric of the retrained model.
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
    """Compute forget quality and score.

    Args:
        cell: Metrics of the unlearned model.
        target: Metrics of the target model at the same precision.
        retrain: Metrics of the retrained model at the same precision.
    """
    if untestable(target, retrain, FORGETTING) or any(m not in cell for m in FORGETTING):
        return Scores(None, None)
    shares = [forgetting(m, cell[m], target[m], retrain[m]) for m in FORGETTING]
    count = len(shares)
    quality = linear(sum(s.value for s in shares) / count, [(1 / count, s) for s in shares])
    return Scores(quality, _score(quality, cell.get("utility"), target.get("utility")))


def _score(quality: Estimate, utility: Estimate | None, full: Estimate | None) -> Estimate | None:
    if utility is None or full is None or full.value <= 0:
        return None
    relative = Estimate(1.0, {})
    if utility.value < full.value:
        ratio = utility.value / full.value
        relative = linear(ratio, [(1 / full.value, utility), (-ratio / full.value, full)])
    total = quality.value + relative.value
    if quality.value <= 0 or relative.value <= 0:
        return Estimate(0.0, {})
    return linear(
        200 * quality.value * relative.value / total,
        [
            (200 * relative.value**2 / total**2, quality),
            (200 * quality.value**2 / total**2, relative),
        ],
    )


def forgot(cell: Estimates, target: Estimates, retrain: Estimates) -> bool | None:
    """Decide the gate: the share of forgetting is at least `GATE` in VerbMem and in KnowMem.

    Args:
        cell: Metrics of the unquantized checkpoint.
        target: Metrics of the unquantized target model.
        retrain: Metrics of the unquantized retrained model.

    Returns:
        None if the references cannot be told apart or a metric is missing.
    """
    if untestable(target, retrain, GATED) or any(metric not in cell for metric in GATED):
        return None
    return all(forgetting(m, cell[m], target[m], retrain[m]).value >= GATE for m in GATED)


def way_back(
    metric: str, quantized: Estimate, unquantized: Estimate, target: Estimate
) -> float | None:
    """Recovery as a share of the distance to the target under the same quantizer.

    The share is 0 if nothing is recovered, 1 at the value of the target, and below 0 if
    quantization removes more of the text.

    Args:
        metric: Name of the metric.
        quantized: Metric of the unlearned model at a precision.
        unquantized: Metric of the same model before quantization.
        target: Metric of the target model at that precision.

    Returns:
        None unless the target remembers more than the unquantized model, by more than the standard
        error of the difference.
    """
    more, less = (unquantized, target) if metric == "privleak" else (target, unquantized)
    if not more.exceeds(less, 1.0) or more.value <= less.value:
        return None
    return (quantized.value - unquantized.value) / (target.value - unquantized.value)
