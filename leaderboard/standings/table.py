"""Rows of the leaderboard, one per method, finetuning and precision, from records."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev
from typing import Any

from ..records.schema import METRICS, REFERENCES, UNQUANTIZED, Record
from .estimates import Estimate, Z, mean_over_seeds, of_auc, of_metric, of_record
from .grouping import (
    FULL_BITS,
    Board,
    Group,
    Key,
    Peers,
    bits,
    finite,
    first,
    group_records,
    key_of,
    make_boards,
    quantizer_digest,
)
from .scores import FORGETTING, combine, forgot, untestable, way_back

Estimates = dict[str, Estimate]

UNCHANGED = "not ranked: no weight differs from the model before unlearning"

RANGES = {
    "verbmem": (0.0, 100.0),
    "knowmem": (0.0, 100.0),
    "privleak": (-100.0, math.inf),
    "utility": (0.0, 100.0),
}
"""Lowest and highest possible value of a metric."""


@dataclass(frozen=True)
class Value:
    """A number of the table.

    Attributes:
        mean: Mean over seeds.
        stderr: Standard error over documents and, with several seeds, over seeds; None if it is
            not known or if all documents agree.
        low: Lower end of the 95% interval if all documents agree, otherwise None.
        high: Upper end of the same interval.
        spread: Sample standard deviation over seeds; None with a single one.
    """

    mean: float
    stderr: float | None = None
    low: float | None = None
    high: float | None = None
    spread: float | None = None


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        board: Board of the row.
        method: Name of the method, or ``target`` or ``retrain``.
        finetuning: ``full``, ``lora`` or ``none``.
        precision: Name of the precision.
        settings: Digest of all settings except precision and seed.
        quantizer: Digest of the quantizer and its parameters.
        records: Records in the order of their seeds.
        values: The four metrics; for each ``recovery_…`` in points and ``way_back_…`` as a share;
            ``forget_quality`` and ``score``. Numbers that cannot be computed are missing.
        extra: Scores of other tasks, in lm-eval's own units; missing if a seed lacks them.
        forgot: Result of the gate on the unquantized checkpoint; None if it is not known.
        setting: Settings that tell the checkpoint from others of the same name; may be empty.
        variant: Digest of the quantizer if another one has the same name, otherwise empty.
        ranked: True if the checkpoint has scores at all precisions that order the board.
        reasons: Reasons for missing numbers and ranks.
    """

    board: Board
    method: str
    finetuning: str
    precision: str
    settings: str
    quantizer: str
    records: tuple[Record, ...]
    values: dict[str, Value]
    extra: dict[str, Value]
    forgot: bool | None
    setting: str
    variant: str
    ranked: bool = False
    reasons: tuple[str, ...] = ()

    @property
    def corpus(self) -> str:
        """Name of the corpus."""
        return self.board.corpus

    @property
    def seeds(self) -> int:
        """Number of seeds."""
        return len(self.records)

    @property
    def bits(self) -> float:
        """Bits per weight; infinity for a checkpoint that is not quantized."""
        return bits(self.records[0])

    @property
    def dtype(self) -> str | None:
        """Dtype of the weights that are not quantized; None if it is not recorded."""
        return next((r.dtype for r in self.records if r.dtype), self.records[0].dtype)

    @property
    def is_reference(self) -> bool:
        """True for target and retrain rows, which are not ranked."""
        return self.method in REFERENCES

    @property
    def is_quantized(self) -> bool:
        """True if the weights have fewer than `FULL_BITS` bits."""
        return self.bits < FULL_BITS

    @property
    def notes(self) -> tuple[str, ...]:
        """Reasons for missing numbers, including failures."""
        failures = (
            f"{r.status}: {r.reason}" for r in self.records if r.status != "done" or r.reason
        )
        return (*failures, *self.reasons)

    @property
    def checkpoint(self) -> tuple[str, ...]:
        """Identity of the checkpoint, shared by its rows at all precisions."""
        return self.board.title, self.method, self.finetuning, self.settings

    @property
    def precision_key(self) -> tuple[str, str]:
        """Identity of the precision: its name and the digest of the quantizer."""
        return self.precision, self.quantizer


def build_table(records: Iterable[Record]) -> list[Row]:
    """Build the rows of all boards: references, then methods, best first.

    Methods are ordered by their mean score over the quantizers with the fewest bits at which target
    and retrain can be told apart. Methods that did not forget (the gate) come after all that did.
    Checkpoints that lack one of these scores or have no changed weight are not ranked and come
    last.

    Raises:
        InputError: Two records are of the same cell.
    """
    groups = group_records(records)
    boards = make_boards(groups)
    peers = Peers(groups)
    rows = [_row(key, group, boards[key.board], peers) for key, group in groups.items()]
    ordered: list[Row] = []
    for board in sorted({row.board for row in rows}):
        ordered += _order([row for row in rows if row.board == board])
    return ordered


def ranking_precisions(rows: Sequence[Row]) -> list[Row]:
    """Target rows at the precisions that order a board; empty without scores.

    Args:
        rows: Rows of one board.
    """
    references = [row for row in rows if row.method == "target"]
    scored: dict[tuple[str, ...], set[tuple[str, str]]] = defaultdict(set)
    for row in rows:
        if "score" in row.values:
            scored[row.checkpoint].add(row.precision_key)
    for width in sorted({row.bits for row in references}):
        members = [row for row in references if row.bits == width]
        if any({row.precision_key for row in members} <= keys for keys in scored.values()):
            return sorted(members, key=lambda row: row.precision)
    return []


def _row(key: Key, group: Group, board: Board, peers: Peers) -> Row:
    is_reference = key.method in REFERENCES
    retrained = peers.retrained(key, group)
    unquantized = peers.unquantized(key)
    seeds = {seed: _estimates(record, retrained) for seed, record in group.items()}
    before = {seed: _estimates(record, retrained) for seed, record in unquantized.items()}
    columns: dict[str, list[Estimate | None]] = defaultdict(list)
    target, retrain = (
        _estimates(peers.reference(role, key, group), retrained) for role in REFERENCES
    )
    for seed, metrics in seeds.items():
        for metric in METRICS:
            now, then = metrics.get(metric), before.get(seed, {}).get(metric)
            columns[metric].append(now)
            if unquantized is not group:
                columns[f"recovery_{metric}"].append(now - then if now and then else None)
        if not is_reference:
            scores = combine(metrics, target, retrain)
            columns["forget_quality"].append(scores.forget_quality)
            columns["score"].append(scores.score)
    means = {name: _mean(estimates, (key, name)) for name, estimates in columns.items()}
    values = {name: _value(name, mean, columns[name]) for name, mean in means.items() if mean}
    if not is_reference and unquantized is not group:
        values |= _ways_back(key, means, before, target)
    records = tuple(group.values())
    own = {name: mean for name in METRICS if (mean := means.get(name))}
    reason = untestable(own, retrain, FORGETTING) if key.method == "target" else None
    return Row(
        board=board,
        method=key.method,
        finetuning=key.finetuning,
        precision=key.precision,
        settings=key.settings,
        quantizer=key.quantizer,
        records=records,
        values=values,
        extra=_extra(records),
        forgot=None if is_reference else _gate(key, group, peers),
        setting=peers.setting(key),
        variant=peers.variant(key),
        reasons=(f"no forget quality at this precision: {reason}",) if reason else (),
    )


def _estimates(record: Record | None, retrained: Record | None) -> Estimates:
    """Metrics of a record that have a number, with PrivLeak's zero from the retrained model."""
    if record is None:
        return {}
    zero = None
    if retrained is not None and {"privleak/forget", "privleak/holdout"} <= (
        retrained.examples.keys()
    ):
        zero = of_auc(retrained.examples["privleak/forget"], retrained.examples["privleak/holdout"])
    estimates = {name: of_record(record, name, zero) for name in METRICS}
    return {name: estimate for name, estimate in estimates.items() if estimate is not None}


def _gate(key: Key, group: Group, peers: Peers) -> bool | None:
    """Decide the gate for the unquantized checkpoint, by the means over its seeds."""
    unquantized = peers.unquantized(key)
    if not unquantized or unquantized.keys() != group.keys():
        return None
    record = first(unquantized)
    unquantized_key = key._replace(
        precision=record.cell.precision, quantizer=quantizer_digest(record.cell)
    )
    target, retrain = (
        _estimates(peers.reference(role, unquantized_key, unquantized), None) for role in REFERENCES
    )
    seeds = [_estimates(member, None) for member in unquantized.values()]
    means = {
        name: _mean([seed.get(name) for seed in seeds], (unquantized_key, name)) for name in METRICS
    }
    return forgot({name: mean for name, mean in means.items() if mean}, target, retrain)


def _ways_back(
    key: Key, means: Mapping[str, Estimate | None], before: Mapping[int, Estimates], target: Any
) -> dict[str, Value]:
    shares = {}
    for metric in METRICS:
        now = means.get(metric)
        then = _mean([seed.get(metric) for seed in before.values()], (key, metric, "before"))
        if now is None or then is None or metric not in target:
            continue
        share = way_back(metric, now, then, target[metric])
        if share is not None:
            shares[f"way_back_{metric}"] = Value(share)
    return shares


def _mean(numbers: Sequence[Estimate | None], key: Any) -> Estimate | None:
    """Mean over seeds; None if a seed has no number."""
    estimates = [number for number in numbers if number is not None]
    if not estimates or len(estimates) < len(numbers):
        return None
    return mean_over_seeds(estimates, key)


def _value(name: str, mean: Estimate, seeds: Sequence[Estimate | None]) -> Value:
    numbers = [seed.value for seed in seeds if seed is not None]
    stderr = mean.stderr
    value = Value(mean.value, spread=stdev(numbers) if len(numbers) > 1 else None)
    if stderr is None:
        return value
    if not mean.is_edge:
        return replace(value, stderr=stderr)
    lowest, highest = RANGES.get(name, (-math.inf, math.inf))
    return replace(
        value,
        low=max(lowest, mean.value - Z * stderr),
        high=min(highest, mean.value + Z * stderr),
    )


def _extra(records: Sequence[Record]) -> dict[str, Value]:
    """Scores of other tasks that all seeds have."""
    values = {}
    for name in sorted({name for record in records for name in record.extra}):
        seeds = [
            of_metric(name, record.extra[name], key_of(record.cell))
            if name in finite(record.extra)
            else None
            for record in records
        ]
        if mean := _mean(seeds, (name, key_of(records[0].cell))):
            values[name] = _value(name, mean, seeds)
    return values


def _order(rows: list[Row]) -> list[Row]:
    """Order the rows of a board and mark the ranked ones."""
    ranking = {row.precision_key: row.precision for row in ranking_precisions(rows)}
    checkpoints: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in rows:
        checkpoints[row.checkpoint].append(row)
    keys, ordered = {}, []
    for checkpoint, members in checkpoints.items():
        scores = {r.precision_key: r.values["score"].mean for r in members if "score" in r.values}
        missing = [name for key, name in ranking.items() if key not in scores]
        top = max(members, key=lambda row: (row.bits, row.precision))
        if top.is_reference:
            keys[checkpoint] = (REFERENCES.index(top.method), False, 0.0, checkpoint)
            continue
        unchanged = any(record.is_unchanged for row in members for record in row.records)
        ranked = bool(ranking) and not missing and not unchanged
        score = fmean(scores[key] for key in ranking) if ranked else scores.get(top.precision_key)
        group = len(REFERENCES) + (not ranked)
        keys[checkpoint] = (group, not top.forgot, 1.0 if score is None else -score, checkpoint)
        if unchanged or missing:
            lacking = f"not ranked: no score at {', '.join(sorted(missing))}"
            reason = UNCHANGED if unchanged else lacking
            members = [
                replace(row, reasons=(*row.reasons, reason)) if row is top else row
                for row in members
            ]
        checkpoints[checkpoint] = [replace(row, ranked=ranked) for row in members]
    for checkpoint in sorted(checkpoints, key=keys.__getitem__):
        ordered += sorted(checkpoints[checkpoint], key=_by_precision)
    return ordered


def _by_precision(row: Row) -> tuple[Any, ...]:
    return -row.bits, row.precision, row.quantizer


def precision(row: Row) -> str:
    """Precision of a row, or the dtype of the weights if nothing is rounded.

    The digest of the quantizer follows if another one has the same name.
    """
    label = precision_label(row.precision, row.records[0].cell.quantizer, row.dtype)
    return label + (f" [{row.variant}]" if row.variant else "")


def precision_label(precision: str, quantizer: str, dtype: str | None) -> str:
    """Name of a precision in tables.

    Args:
        precision: Name of the precision in the configuration.
        quantizer: Name of the quantizer.
        dtype: Dtype of the weights, shown for ``none``; None if it is not known.
    """
    return dtype if dtype and precision == quantizer == UNQUANTIZED else precision


def by_board(rows: list[Row]) -> dict[Board, list[Row]]:
    """Group rows by board, in order."""
    boards: dict[Board, list[Row]] = {}
    for row in rows:
        boards.setdefault(row.board, []).append(row)
    return boards
