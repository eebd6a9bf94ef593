"""Scores with standard errors, and the propagation of these errors.

An estimate is a value and a set of independent deviations; its variance is the sum of their
squares. There is a deviation for each evaluated document and one for the spread over seeds.
Estimates from the same documents share keys, so the error of a difference is a paired one. Errors
are propagated linearly (delta method).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev

from harness_tasks import scoring

from ..records.schema import ExampleScores, Metric, Record
from .grouping import key_of

Z = 1.959963984540054
"""Quantile of the normal distribution for a 95% interval."""
FULL_RANGE = 100.0
"""Range of a score in points."""

Parts = Mapping[Hashable, float]


@dataclass(frozen=True)
class Estimate:
    """A value with its error.

    Attributes:
        value: The value.
        parts: Independent deviations by source, for example a document; None if the error is not
            known.
        groups: Number of independent documents; 0 if the value does not come from documents.
        span: Range of the score of a document.
        slack: Error if all ``parts`` are zero; None to derive it from ``groups``.
    """

    value: float
    parts: Parts | None
    groups: int = 0
    span: float = FULL_RANGE
    slack: float | None = None

    @property
    def is_edge(self) -> bool:
        """True if all documents agree, so their spread gives no error."""
        return self.parts is not None and not any(self.parts.values())

    @property
    def stderr(self) -> float | None:
        """Standard error, or an exact bound if all documents agree; None if it is not known.

        If all of n documents agree, the share of documents that would not is below
        1 − 0.025^(1/n) with 97.5% confidence (Clopper–Pearson).
        """
        if self.parts is None:
            return None
        if not self.is_edge:
            return math.sqrt(sum(part * part for part in self.parts.values()))
        if self.slack is None and self.groups:
            return self.span * scoring.exact_width(self.groups) / Z
        return self.slack

    def __sub__(self, other: Estimate) -> Estimate:
        """Difference, paired if both come from the same documents."""
        return linear(
            self.value - other.value,
            [(1.0, self), (-1.0, other)],
            groups=min(filter(None, (self.groups, other.groups)), default=0),
            span=max(self.span, other.span),
        )

    def exceeds(self, other: Estimate, errors: float) -> bool | None:
        """Compare with ``other``, in standard errors of the difference.

        Returns:
            True if this value is larger by at least ``errors`` standard errors; None if the error
            is not known.
        """
        difference = self - other
        stderr = difference.stderr
        return None if stderr is None else difference.value >= errors * stderr


def linear(
    value: float,
    terms: Iterable[tuple[float, Estimate]],
    *,
    groups: int = 0,
    span: float = FULL_RANGE,
) -> Estimate:
    """Propagate the errors of estimates to a value computed from them.

    Args:
        value: The computed value.
        terms: Pairs of derivative and estimate; pairs with derivative 0 are ignored.
        groups: See `Estimate`.
        span: See `Estimate`.
    """
    parts: defaultdict[Hashable, float] = defaultdict(float)
    slacks: list[float] = []
    for derivative, term in terms:
        if derivative == 0:
            continue
        if term.parts is None:
            return Estimate(value, None)
        if term.is_edge and term.slack is not None:
            slacks.append(derivative * term.slack)
        for key, part in term.parts.items():
            parts[key] += derivative * part
    # differences of equal numbers leave rounding errors
    if max((abs(part) for part in parts.values()), default=0.0) < 1e-9 * span:
        return Estimate(value, {}, groups, span, math.hypot(*slacks) if slacks else None)
    for number, slack in enumerate(slacks):
        parts["edge", number] = slack
    return Estimate(value, dict(parts), groups, span)


def mean_over_seeds(estimates: Sequence[Estimate], key: Hashable) -> Estimate:
    """Average the estimates of several seeds; their spread adds to the error.

    Args:
        estimates: One per seed, from the same documents.
        key: Identifies the row; seeds of different rows are independent.
    """
    count = len(estimates)
    spread = 0.0
    if count > 1:
        spread = stdev(estimate.value for estimate in estimates) / math.sqrt(count)
    slacks = [e.slack for e in estimates if e.is_edge and e.slack is not None]
    if slacks and (spread or len(slacks) < count):  # seeds share documents and thus the error
        estimates = [
            replace(e, parts={("edge", key): e.slack}) if e.is_edge and e.slack else e
            for e in estimates
        ]
    mean = linear(
        fmean(estimate.value for estimate in estimates),
        [(1 / count, estimate) for estimate in estimates],
        groups=min(estimate.groups for estimate in estimates),
        span=max(estimate.span for estimate in estimates),
    )
    if mean.parts is None:
        return mean
    if mean.is_edge and slacks:
        mean = replace(mean, slack=max(slacks))
    if not spread:
        return mean
    parts = dict(mean.parts or {})
    parts["seeds", key] = spread
    return replace(mean, parts=parts)


def of_scores(task: str, examples: ExampleScores) -> Estimate | None:
    """Mean score of a task with its error over documents; None if an example has no score."""
    scores = [score for score in examples.scores if score is not None]
    if not scores or len(scores) < len(examples.scores):
        return None
    mean = fmean(scores)
    documents: defaultdict[Hashable, float] = defaultdict(float)
    for name, score in zip(examples.documents or examples.examples, scores, strict=True):
        documents[task, name] += (score - mean) / len(scores)
    count = len(documents)
    if count < 2:
        return Estimate(mean, None)
    factor = math.sqrt(count / (count - 1))
    return Estimate(mean, {key: factor * part for key, part in documents.items()}, count)


def of_auc(forget: ExampleScores, holdout: ExampleScores) -> Estimate | None:
    """AUC of holdout against forget texts with DeLong's error; None if a text has no score.

    The deviations are the structural components of DeLong et al. (1988), so AUCs of the same texts
    have the covariance of that paper.
    """
    positives, negatives = (
        [score for score in side.scores if score is not None] for side in (holdout, forget)
    )
    sizes = len(positives), len(negatives)
    if 0 in sizes or sizes != (len(holdout.scores), len(forget.scores)):
        return None
    area, *components = scoring.auc_components(positives, negatives)
    if min(sizes) < 2:
        return Estimate(area, None)
    parts: dict[Hashable, float] = {}
    for side, texts, values in zip(
        ("holdout", "forget"), (holdout, forget), components, strict=True
    ):
        scale = math.sqrt(len(values) * (len(values) - 1))
        for example, value in zip(texts.examples, values, strict=True):
            parts["privleak", side, example] = (float(value) - area) / scale
    return Estimate(area, parts, min(sizes), 1.0)


def of_privleak(auc: Estimate, zero: Estimate) -> Estimate:
    """PrivLeak = 100 · (AUC / AUC of the retrained model − 1), with the errors of both."""
    if auc == zero:  # the retrained model: 0 by definition
        return Estimate(0.0, {})
    return linear(
        scoring.privleak(auc.value, zero.value),
        [(100 / zero.value, auc), (-100 * auc.value / zero.value**2, zero)],
        groups=auc.groups,
        span=100 / zero.value,
    )


def measured_metric(
    name: str, value: float, examples: Mapping[str, ExampleScores], zero: Estimate | None
) -> Metric:
    """Build the metric of a record: a MUSE score with its error over the examples.

    Args:
        name: Name of the metric.
        value: The score, × 100.
        examples: Scores of the examples by task.
        zero: AUC of the retrained model, for PrivLeak.
    """
    estimate = of_examples(name, examples, zero) or Estimate(value, None)
    low, high = 0.0, FULL_RANGE
    if name == "privleak":
        low, high = -FULL_RANGE, scoring.privleak(1.0, zero.value) if zero else math.inf
    return _metric(replace(estimate, value=value), low, high)


def _metric(estimate: Estimate, low: float, high: float) -> Metric:
    """Round an estimate and clip its 95% interval to ``[low, high]``."""
    value, stderr = estimate.value, estimate.stderr
    if stderr is None:
        return Metric(value=_rounded(value), stderr=None)
    interval = max(low, value - Z * stderr), min(high, value + Z * stderr)
    return Metric(
        value=_rounded(value),
        stderr=None if estimate.is_edge else _rounded(stderr),
        low=_rounded(interval[0]),
        high=_rounded(interval[1]),
    )


def of_metric(name: str, metric: Metric, key: Hashable) -> Estimate:
    """Estimate from the metric of a record, without the scores of its examples.

    Args:
        name: Name of the metric.
        metric: Value and error.
        key: Identifies the error; errors of different keys are independent. Seeds of a row share
            a key, since they are evaluated on the same documents.
    """
    if metric.stderr:
        return Estimate(metric.value, {(name, key): metric.stderr})
    if metric.low is None or metric.high is None:
        return Estimate(metric.value, None)
    width = max(metric.value - metric.low, metric.high - metric.value)
    return Estimate(metric.value, {}, slack=width / Z)


def of_record(record: Record, name: str, zero: Estimate | None = None) -> Estimate | None:
    """Estimate a metric of a record, with its error over documents.

    Args:
        record: The record.
        name: Name of the metric.
        zero: AUC of the retrained model, for PrivLeak; by default that of the record.

    Returns:
        None if the record has no finite value.
    """
    metric = record.metrics.get(name)
    if metric is None or not math.isfinite(metric.value):
        return None
    if name == "privleak" and _is_zero(record):
        return Estimate(0.0, {})
    estimate = of_examples(name, record.examples, zero or retrain_auc(record))
    if estimate is None:
        return of_metric(name, metric, key_of(record.cell))
    return replace(estimate, value=metric.value)


def _is_zero(record: Record) -> bool:
    """True for the retrained model that defines the zero of PrivLeak."""
    zero, training = record.cell.retrain_auc, record.cell.training
    if zero is None or record.is_quantized or training.method != "retrain":
        return False
    return zero.source == "measured" and zero.model == training.model


def of_examples(
    name: str, examples: Mapping[str, ExampleScores], zero: Estimate | None
) -> Estimate | None:
    """Estimate a metric from the scores of its examples.

    Args:
        name: Name of the metric.
        examples: Scores of the examples by task, as in a record.
        zero: AUC of the retrained model, for PrivLeak.

    Returns:
        None if scores or, for PrivLeak, the zero are missing.
    """
    if name != "privleak":
        return of_scores(name, examples[name]) if name in examples else None
    if zero is None or not zero.value > 0 or not examples.keys() >= PRIVLEAK_SIDES:
        return None
    auc = of_auc(examples["privleak/forget"], examples["privleak/holdout"])
    return of_privleak(auc, zero) if auc else None


PRIVLEAK_SIDES = {"privleak/forget", "privleak/holdout"}


def retrain_auc(record: Record) -> Estimate | None:
    """Zero of PrivLeak in a record; its error is independent of the record's own texts."""
    value, stderr = record.provenance.retrain_auc, record.provenance.retrain_auc_stderr
    if value is None:
        return None
    return Estimate(value, {("retrain_auc",): stderr} if stderr else None, span=1.0)


def _rounded(number: float) -> float:
    return round(number, 6) + 0.0
