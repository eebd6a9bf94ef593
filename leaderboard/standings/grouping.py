"""Grouping of records: the seeds of a row, the rows of a board, the references of a row."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..errors import InputError
from ..records.schema import (
    REFERENCES,
    Cell,
    Metric,
    ModelId,
    Record,
    Training,
    digest,
)

FULL_BITS = 16
"""Bits from which a precision counts as unquantized: ``bf16`` is a cast."""

Numbers = dict[str, float]


@dataclass(frozen=True, order=True)
class Board:
    """Rows that can be compared: one corpus, evaluated in one way.

    Attributes:
        corpus: its name.
        title: the corpus, and what sets the evaluation apart from a whole one; no two are alike.
    """

    corpus: str
    title: str


class Key(NamedTuple):
    """Where a record belongs, whatever its seed; all but the names are digests."""

    board: str
    method: str
    finetuning: str
    settings: str
    precision: str
    quantizer: str


Group = dict[int, Record]
"""Records by seed."""


def group_records(records: Iterable[Record]) -> dict[Key, Group]:
    """Seeds together, all else apart; folds are left out (see `report.folds`).

    Raises:
        InputError: two records are of one cell.
    """
    groups: dict[Key, Group] = defaultdict(dict)
    for record in sorted(records, key=lambda record: record.cell.training.seed):
        training = record.cell.training
        if training.stage:
            continue
        seeds = groups[key_of(record.cell)]
        if training.seed in seeds:
            raise InputError(f"two records are of the same cell: {record.cell.stem}")
        seeds[training.seed] = record
    return dict(groups)


def settings_digest(training: Training) -> str:
    """What two rows of one method differ in: the checkpoint's settings, without the seed."""
    same = {**training.settings, "seed": 0}
    return digest(training.model_copy(update={"settings": same, "seed": 0}))


def setting_labels(trainings: Mapping[str, Training]) -> dict[str, str]:
    """What sets checkpoints of one name apart, as "epochs 5" or "bfloat16", by their digests.

    It is the digest where nothing else does, as with another model or text.
    """
    values = {
        key: {
            **t.params,
            **t.finetuning_params,
            **t.settings,
            "seed": None,
            "dtype": t.dtype and f"{t.dtype} model",
            "tokenizer": t.tokenizer and f"tokenizer {t.tokenizer.name}",
        }
        for key, t in trainings.items()
    }
    names = {name: None for settings in values.values() for name in settings}
    differing = [
        name
        for name in names
        if len({repr(settings.get(name)) for settings in values.values()}) > 1
    ]
    labels = {
        key: ", ".join(_setting(name, settings[name]) for name in differing if name in settings)
        for key, settings in values.items()
    }
    count = Counter(labels.values())
    return {key: label if label and count[label] == 1 else key for key, label in labels.items()}


def _setting(name: str, value: Any) -> str:
    """A name chosen from a list, as a dtype, speaks for itself."""
    return f"{value:.40}" if isinstance(value, str) else f"{name} {value!s:.40}"


def evaluation(cell: Cell) -> dict[str, Any]:
    """Settings of a cell's evaluation, without those of model and quantizer."""
    model = {"training", "precision", "quantizer", "quantizer_params", "batch_size"}
    return cell.model_dump(exclude=model)


def key_of(cell: Cell) -> Key:
    """The group of a cell."""
    training = cell.training
    # the same text, wherever it was read from
    text = training.corpus.model_dump(exclude={"source", "revision"})
    return Key(
        board=_digest(text, evaluation(cell)),
        method=training.method,
        finetuning=training.finetuning,
        settings=settings_digest(training),
        precision=cell.precision,
        quantizer=quantizer_digest(cell),
    )


def quantizer_digest(cell: Cell) -> str:
    """Digest of a cell's quantizer and its parameters."""
    return _digest(cell.quantizer, cell.quantizer_params)


def _digest(*parts: Any) -> str:
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def make_boards(groups: Mapping[Key, Group]) -> dict[str, Board]:
    """The board of each key."""
    cells = {key.board: next(iter(group.values())).cell for key, group in groups.items()}
    return {
        key: Board(corpus=cells[key].training.corpus.name, title=title)
        for key, title in board_titles(cells).items()
    }


def board_titles(cells: Mapping[str, Cell]) -> dict[str, str]:
    """Titles by a board's key, no two alike; ``cells`` has one cell of each.

    A title says what is left out of the evaluation; what it takes to tell it from others of the
    same text follows: the extra tasks, then the key.
    """
    titles = {}
    for key, cell in cells.items():
        parts = [cell.training.corpus.name]
        if cell.subset != "all":
            parts.append(f"{cell.subset} half")
        if cell.limit is not None:
            parts.append(f"first {cell.limit} examples")
        if cell.chat_template:
            parts.append("chat template")
        titles[key] = ", ".join(parts)
    tasks = {
        key: f" with {', '.join(cell.extra_tasks)}"
        for key, cell in cells.items()
        if cell.extra_tasks
    }
    for more in (tasks, {key: f" [{key}]" for key in cells}):
        count = Counter(titles.values())
        titles = {
            key: title + (more.get(key, "") if count[title] > 1 else "")
            for key, title in titles.items()
        }
    return titles


class Peers:
    """Finds the groups that a group is compared with."""

    def __init__(self, groups: Mapping[Key, Group]) -> None:
        self._references: dict[tuple[str, ...], list[Record]] = defaultdict(list)
        self._unquantized: dict[tuple[str, ...], Group] = {}
        self._retrained: dict[tuple[str, ModelId, str | None], Record] = {}
        self._trainings: dict[tuple[str, ...], dict[str, Training]] = defaultdict(dict)
        self._quantizers: dict[tuple[str, str], set[str]] = defaultdict(set)
        for key, group in sorted(groups.items(), key=lambda item: -bits(first(item[1]))):
            record = first(group)
            training = record.cell.training
            if key.method == "retrain" and not record.is_quantized:
                self._retrained[key.board, training.model, training.dtype] = record
            if key.method in REFERENCES:
                place = (key.method, key.board, key.precision, key.quantizer)
                self._references[place] += group.values()
            if bits(record) >= FULL_BITS:
                self._unquantized.setdefault(self._checkpoint(key), group)
            self._trainings[key.board, key.method, key.finetuning][key.settings] = training
            self._quantizers[key.board, key.precision].add(key.quantizer)

    @staticmethod
    def _checkpoint(key: Key) -> tuple[str, ...]:
        return key.board, key.method, key.finetuning, key.settings

    def reference(self, role: str, key: Key, group: Group) -> Record | None:
        """Record of the target or retrain model, evaluated in the same way.

        It has the quantizer and dtype of the group. Of several targets it is the one that the
        group was unlearned from. Where that leaves more than one there is none.
        """
        training = first(group).cell.training
        found = [
            record
            for record in self._references[role, key.board, key.precision, key.quantizer]
            if record.cell.training.dtype == training.dtype
            and (role != "target" or _is_model(record.cell.training, training))
        ]
        return found[0] if len(found) == 1 else None

    def unquantized(self, key: Key) -> Group:
        """Records of the same checkpoints before quantization, by seed.

        These are those of ``none``; of ``bf16`` where there are no others.
        """
        return self._unquantized.get(self._checkpoint(key), {})

    def retrained(self, key: Key, group: Group) -> Record | None:
        """Record of the unquantized retrained model, on which PrivLeak's zero is measured."""
        zero = first(group).cell.retrain_auc
        if zero is None or zero.model is None:
            return None
        dtype = first(group).cell.training.dtype
        return self._retrained.get((key.board, zero.model, dtype))

    def setting(self, key: Key) -> str:
        """Settings that tell the checkpoint from others of its name; empty without others."""
        trainings = self._trainings[key.board, key.method, key.finetuning]
        return setting_labels(trainings)[key.settings] if len(trainings) > 1 else ""

    def variant(self, key: Key) -> str:
        """Digest of the quantizer where another one has its name, otherwise empty."""
        return key.quantizer if len(self._quantizers[key.board, key.precision]) > 1 else ""


def first(group: Group) -> Record:
    """The record of the first seed."""
    return next(iter(group.values()))


def bits(record: Record) -> float:
    """Bits per weight; infinity for a checkpoint that is not quantized."""
    return math.inf if record.bits is None else record.bits


def _is_model(one: Training, other: Training) -> bool:
    return one.model == other.model and one.tokenizer == other.tokenizer


def finite(metrics: Mapping[str, Metric]) -> Numbers:
    """The scores that are numbers."""
    return {name: m.value for name, m in metrics.items() if math.isfinite(m.value)}
