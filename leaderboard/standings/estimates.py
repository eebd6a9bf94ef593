"""Scores with their errors, and the errors of what is computed from them.

An estimate is a value and the independent deviations whose squares add up to its variance: one for
every document that was evaluated, one for the spread over seeds. Two estimates from the same
documents share their keys, so that the error of a difference is that of paired examples. Errors
follow by linear propagation (the delta method).
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

Parts = Mapping[Hashable, float]


@dataclass(frozen=True)
class Estimate:
    """A value with its error.

    Attributes:
        value: the estimate itself.
        parts: independent deviations by the document, or whatever else, that they come from; None
            where the error is not known.
        groups: number of independent documents behind it; 0 for a number that is none of
            documents, as a definition.
        span: range of a single document's score.
        slack: error where ``parts`` are all zero, if known otherwise than by ``groups``.
    """

    value: float
    parts: Parts | None
    groups: int = 0
    span: float = FULL_RANGE
    slack: float | None = None

    @property
    def is_edge(self) -> bool:
        """True where all documents say the same, so that their spread tells no error."""
        return self.parts is not None and not any(self.parts.values())

    @property
    def stderr(self) -> float | None:
        """Standard error; at an edge the exact bound in its place, None where nothing is known.

        Where all of n documents agree, the share of documents that would not is below
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
        """Difference, paired where both come from the same documents."""
        return linear(
            self.value - other.value,
            [(1.0, self), (-1.0, other)],
            groups=min(filter(None, (self.groups, other.groups)), default=0),
            span=max(self.span, other.span),
        )

    def exceeds(self, other: Estimate, errors: float) -> bool | None:
        """Compare: larger than ``other`` by that many standard errors of the difference.

        None where that error is not known.
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
    """Propagate errors: ``value`` depends on each estimate with the given derivative.

    Args:
        value: the result.
        terms: pairs of derivative and estimate; those with derivative 0 do not count.
        groups: see `Estimate`.
        span: see `Estimate`.
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
        estimates: one per seed, of the same documents.
        key: identifies the row, whose seeds are independent of any other row's.
    """
    count = len(estimates)
    spread = 0.0
    if count > 1:
        spread = stdev(estimate.value for estimate in estimates) / math.sqrt(count)
    slacks = [e.slack for e in estimates if e.is_edge and e.slack is not None]
    if slacks and (spread or len(slacks) < count):  # the same documents, and so the same error
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
    """Mean score of a task, its error over documents; None without a number for an example."""
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
    """AUC of holdout against forget texts with DeLong's error; None without a number for a text.

    The deviations are DeLong's structural components, so that AUCs of the same texts get the
    covariance of DeLong et al. (1988).
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
    """PrivLeak = 100 · (AUC / AUC of the retrained model − 1), the error of both included."""
    if auc == zero:  # the retrained model itself, whose PrivLeak is 0 by definition
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
    """Give a score of MUSE its error over the examples, as a record keeps it.

    Args:
        name: of the metric.
        value: the score, × 100.
        examples: scores of the single examples.
        zero: AUC of the retrained model, for PrivLeak.
    """
    estimate = of_examples(name, examples, zero) or Estimate(value, None)
    low, high = 0.0, FULL_RANGE
    if name == "privleak":
        low, high = -FULL_RANGE, scoring.privleak(1.0, zero.value) if zero else math.inf
    return _metric(replace(estimate, value=value), low, high)


def _metric(estimate: Estimate, low: float, high: float) -> Metric:
    """Round an estimate, its 95% interval cut to a range."""
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


def of_metric(name: str, found: Metric, key: Hashable) -> Estimate:
    """Estimate from a record's metric alone.

    Args:
        name: of the metric.
        found: its value and error.
        key: of the record; errors of one key are the same, those of two keys unrelated. Seeds of a
            row share one, since they are evaluated on the same documents.
    """
    if found.stderr:
        return Estimate(found.value, {(name, key): found.stderr})
    if found.low is None or found.high is None:
        return Estimate(found.value, None)
    width = max(found.value - found.low, found.high - found.value)
    return Estimate(found.value, {}, slack=width / Z)


def of_record(record: Record, name: str, zero: Estimate | None = None) -> Estimate | None:
    """A metric of a record with its error over documents.

    Args:
        record: the record.
        name: of the metric.
        zero: AUC of the retrained model, for PrivLeak; taken from the record where left out.
    """
    found = record.metrics.get(name)
    if found is None or not math.isfinite(found.value):
        return None
    if name == "privleak" and _is_zero(record):
        return Estimate(0.0, {})
    estimate = of_examples(name, record.examples, zero or retrain_auc(record))
    if estimate is None:
        return of_metric(name, found, key_of(record.cell))
    return replace(estimate, value=found.value)


def _is_zero(record: Record) -> bool:
    """True for the model whose AUC is PrivLeak's zero, by definition."""
    zero, training = record.cell.retrain_auc, record.cell.training
    if zero is None or record.is_quantized or training.method != "retrain":
        return False
    return zero.source == "measured" and zero.model == training.model


def of_examples(
    name: str, examples: Mapping[str, ExampleScores], zero: Estimate | None
) -> Estimate | None:
    """A metric from the scores of single examples; None where these are not there.

    Args:
        name: of the metric.
        examples: as in a record.
        zero: AUC of the retrained model, for PrivLeak.
    """
    if name != "privleak":
        return of_scores(name, examples[name]) if name in examples else None
    if zero is None or not zero.value > 0 or not examples.keys() >= PRIVLEAK_SIDES:
        return None
    auc = of_auc(examples["privleak/forget"], examples["privleak/holdout"])
    return of_privleak(auc, zero) if auc else None


PRIVLEAK_SIDES = {"privleak/forget", "privleak/holdout"}


def retrain_auc(record: Record) -> Estimate | None:
    """PrivLeak's zero as a record has it; its error is that of another sample than the record's."""
    value, stderr = record.provenance.retrain_auc, record.provenance.retrain_auc_stderr
    if value is None:
        return None
    return Estimate(value, {("retrain_auc",): stderr} if stderr else None, span=1.0)


def _rounded(number: float) -> float:
    return round(number, 6) + 0.0
