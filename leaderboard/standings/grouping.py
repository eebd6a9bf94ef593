"""Grouping of records into the seeds of a row, the rows of a board, the references of a row."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..errors import InputError
from ..records.schema import REFERENCES, Cell, Metric, ModelId, Record, Training, digest

FULL_BITS = 16
"""Minimum bits of a precision that counts as unquantized: ``bf16`` is a cast."""

Numbers = dict[str, float]


@dataclass(frozen=True, order=True)
class Board:
    """Comparable rows: one corpus, evaluated in one way.

    Attributes:
        corpus: Name of the corpus.
        title: Unique title: the corpus, and settings of an evaluation that is not a full one.
    """

    corpus: str
    title: str


class Key(NamedTuple):
    """Group of a record, independent of its seed.

    Attributes:
        board: Digest of the texts and the evaluation.
        method: Name of the method.
        finetuning: ``full``, ``lora`` or ``none``.
        settings: Digest of the checkpoint's settings without the seed.
        precision: Name of the precision.
        quantizer: Digest of the quantizer and its parameters.
    """

    board: str
    method: str
    finetuning: str
    settings: str
    precision: str
    quantizer: str


Group = dict[int, Record]
"""Records by seed."""


def group_records(records: Iterable[Record]) -> dict[Key, Group]:
    """Group records that differ in the seed only; records of suites are left out.

    Raises:
        InputError: Two records are of the same cell.
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
    """Digest of a checkpoint's settings without the seed; it differs between rows of a method."""
    settings = {**training.settings, "seed": 0}
    return digest(training.model_copy(update={"settings": settings, "seed": 0}))


def setting_labels(trainings: Mapping[str, Training]) -> dict[str, str]:
    """Label checkpoints of the same name by the settings that differ, for example "epochs 5".

    Args:
        trainings: Trainings by the digest of their settings.

    Returns:
        Label by digest. The label is the digest if no setting differs, for example between models.
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
    """Format a setting; a text, for example a dtype, needs no name."""
    return f"{value:.40}" if isinstance(value, str) else f"{name} {value!s:.40}"


def evaluation(cell: Cell) -> dict[str, Any]:
    """Settings of a cell's evaluation, without those of model and quantizer."""
    others = {"training", "precision", "quantizer", "quantizer_params", "batch_size"}
    return cell.model_dump(exclude=others)


def key_of(cell: Cell) -> Key:
    """Key of the group of a cell."""
    training = cell.training
    # the same text is the same board, from any source
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
    """Make the boards, by the board of a key."""
    cells = {key.board: next(iter(group.values())).cell for key, group in groups.items()}
    return {
        key: Board(corpus=cells[key].training.corpus.name, title=title)
        for key, title in board_titles(cells).items()
    }


def board_titles(cells: Mapping[str, Cell]) -> dict[str, str]:
    """Make unique titles by the board of a key.

    A title names the restrictions of the evaluation. Equal titles are extended by the extra tasks
    and, if they are still equal, by the key.

    Args:
        cells: One cell per board.
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
    for suffixes in (tasks, {key: f" [{key}]" for key in cells}):
        count = Counter(titles.values())
        titles = {
            key: title + (suffixes.get(key, "") if count[title] > 1 else "")
            for key, title in titles.items()
        }
    return titles


class Peers:
    """Lookup of the groups that a group is compared with.

    Args:
        groups: All groups of a table.
    """

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
                role = (key.method, key.board, key.precision, key.quantizer)
                self._references[role] += group.values()
            if bits(record) >= FULL_BITS:
                self._unquantized.setdefault(self._checkpoint(key), group)
            self._trainings[key.board, key.method, key.finetuning][key.settings] = training
            self._quantizers[key.board, key.precision].add(key.quantizer)

    @staticmethod
    def _checkpoint(key: Key) -> tuple[str, ...]:
        return key.board, key.method, key.finetuning, key.settings

    def reference(self, role: str, key: Key, group: Group) -> Record | None:
        """Find the record of a reference with the evaluation, quantizer and dtype of a group.

        Args:
            role: ``target`` or ``retrain``. A target has to be the model before unlearning.
            key: Key of the group.
            group: Records of the group by seed.

        Returns:
            None without a matching record, or with several.
        """
        training = first(group).cell.training
        matches = [
            record
            for record in self._references[role, key.board, key.precision, key.quantizer]
            if record.cell.training.dtype == training.dtype
            and (role != "target" or _is_model(record.cell.training, training))
        ]
        return matches[0] if len(matches) == 1 else None

    def unquantized(self, key: Key) -> Group:
        """Records of the same checkpoints before quantization, by seed.

        The precision is ``none``, or ``bf16`` without records of ``none``.
        """
        return self._unquantized.get(self._checkpoint(key), {})

    def retrained(self, key: Key, group: Group) -> Record | None:
        """Record of the unquantized retrained model that defines the zero of PrivLeak."""
        zero = first(group).cell.retrain_auc
        if zero is None or zero.model is None:
            return None
        dtype = first(group).cell.training.dtype
        return self._retrained.get((key.board, zero.model, dtype))

    def setting(self, key: Key) -> str:
        """Settings that tell the checkpoint from others of the same name; empty without others."""
        trainings = self._trainings[key.board, key.method, key.finetuning]
        return setting_labels(trainings)[key.settings] if len(trainings) > 1 else ""

    def variant(self, key: Key) -> str:
        """Digest of the quantizer if another one has the same name, otherwise empty."""
        return key.quantizer if len(self._quantizers[key.board, key.precision]) > 1 else ""


def first(group: Group) -> Record:
    """Record of the first seed."""
    return next(iter(group.values()))


def bits(record: Record) -> float:
    """Bits per weight; infinity for a checkpoint that is not quantized."""
    return math.inf if record.bits is None else record.bits


def _is_model(reference: Training, training: Training) -> bool:
    return reference.model == training.model and reference.tokenizer == training.tokenizer


def finite(metrics: Mapping[str, Metric]) -> Numbers:
    """Finite scores by name."""
    return {name: m.value for name, m in metrics.items() if math.isfinite(m.value)}
