"""What the records of a submission must hold together: the grid they promise, on one text."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

from ..config import CorpusEntry, RunConfig, Suite
from ..plan import STAGES
from ..records.schema import (
    REFERENCES,
    Cell,
    ModelId,
    Record,
    SuiteStage,
    Training,
    digest,
)
from ..samples import Sample
from .findings import Finding
from .manifest import CONFIG, MOST_FILES
from .safe_read import short

AUC_TOLERANCE = 0.01
"""Difference of two measurements of one model's AUC, between which near-ties may fall."""

Records = Mapping[str, Record]
"""By the path of their file."""


class Together:
    """Remembers what was asked in the cells of each corpus: it must be the same in all."""

    def __init__(self) -> None:
        self._examples: dict[tuple[str, str], tuple[list[int], str]] = {}
        self._questions: dict[tuple[str, str, int], tuple[bytes, str]] = {}

    def problems(self, record: Record, answers: Sequence[Sample], place: str) -> Iterator[str]:
        """What differs from the cells before, and the file where it was first seen."""
        corpus = record.cell.training.corpus.name
        examples: dict[str, list[int]] = defaultdict(list)
        for answer in answers:
            examples[answer.task].append(answer.example)
            asked = json.dumps([answer.prompt, answer.reference, answer.split])
            key = hashlib.sha256(asked.encode()).digest()
            first, where = self._questions.setdefault(
                (corpus, answer.task, answer.example), (key, place)
            )
            if first != key:
                yield f"{answer.task} {answer.example}: another question or reference than {where}"
        for task, numbers in examples.items():
            seen, where = self._examples.setdefault((corpus, task), (numbers, place))
            if seen != numbers:
                yield f"{task}: other examples than {where}"


def grid_findings(config: RunConfig, method: str, records: Records) -> Iterator[Finding]:
    """Where the records and a resolved configuration differ."""
    yield from _configuration_findings(config, method)
    checkpoints = 2 + len(config.unlearn) * len(config.seeds) * (1 + STAGES * len(config.suites))
    if len(config.corpora) * len(config.precisions) * checkpoints > MOST_FILES:
        yield Finding(CONFIG, f"more than {MOST_FILES} cells")
        return
    promised: dict[str, Cell] = {}
    for entry in config.corpora:
        references = _references(entry, records)
        for role in REFERENCES:
            if role not in references:
                yield Finding(CONFIG, f"no record of {short(entry.name)} {role}")
        if len(references) == len(REFERENCES):
            promised |= {cell.stem: cell for cell in _promised(config, entry, references, records)}
            yield from _reference_findings(entry, references)

    there = {record.cell.stem for record in records.values()}
    missing: dict[str, list[Cell]] = defaultdict(list)
    for stem, cell in promised.items():
        if stem not in there:
            missing[_label(cell)].append(cell)
    for place, record in records.items():
        if record.cell.stem in promised:
            continue
        if twins := missing[_label(record.cell)]:
            yield Finding(place, _difference(record.cell, twins.pop(0)))
        else:
            yield Finding(place, "config.yaml does not name this cell")
    for label, cells in missing.items():
        for _ in cells:
            yield Finding(CONFIG, f"no record of {short(label)}")


def _configuration_findings(config: RunConfig, method: str) -> Iterator[Finding]:
    """What is odd about a configuration by itself."""
    names = [entry.name for entry in config.corpora]
    if len({*names}) < len(names):
        yield Finding(CONFIG, "corpora: one stands there twice")
    if not config.unlearn:
        yield Finding(CONFIG, "unlearn: is empty")
    for entry in config.unlearn:
        if entry.method != method:
            text = f"unlearn: {short(entry.method)} is not the submitted method"
            yield Finding(CONFIG, text)
        for name in entry.corpora or []:
            if name not in names:
                yield Finding(CONFIG, f"unlearn: {short(name)} is not among its corpora")
    if config.evaluation.limit is not None:
        text = f"evaluation.limit: only the first {config.evaluation.limit} examples of every task"
        yield Finding(CONFIG, text, warning=True)
    if config.evaluation.subset == "validation":
        text = "evaluation.subset: on this half settings are chosen, on `test` they are compared"
        yield Finding(CONFIG, text, warning=True)


def _references(entry: CorpusEntry, records: Records) -> dict[str, Training]:
    """The target's and the retrain model's training, as the first record of each has it."""
    found: dict[str, Training] = {}
    for record in records.values():
        training = record.cell.training
        if training.is_reference and training.corpus.name == entry.name:
            found.setdefault(training.method, training)
    return found


def _promised(
    config: RunConfig,
    entry: CorpusEntry,
    references: Mapping[str, Training],
    records: Records,
) -> Iterator[Cell]:
    """Every cell that the configuration names on one corpus, with the settings it gives them."""
    target = references["target"].model_copy(
        update={"params": {}, "finetuning": "none", "finetuning_params": {}, "settings": {}}
    )
    other = references["retrain"]
    retrain = target.model_copy(
        update={
            "method": "retrain",
            "model": other.model,
            "tokenizer": other.tokenizer,
            "dtype": other.dtype,
        }
    )
    cells = [record.cell for record in records.values()]
    zero = next(cell.retrain_auc for cell in cells if cell.training.corpus == target.corpus)
    # only the quantizer knows whether its outputs depend on the batch
    batched = {cell.precision for cell in cells if cell.batch_size is not None}
    trainings = [target, retrain]
    for unlearn, seed in product(config.unlearn, config.seeds):
        if unlearn.corpora is not None and entry.name not in unlearn.corpora:
            continue
        whole = Training(
            corpus=target.corpus,
            model=target.model,
            tokenizer=target.tokenizer,
            dtype=target.dtype,
            method=unlearn.method,
            params=unlearn.params,
            finetuning=unlearn.finetuning,
            finetuning_params=unlearn.finetuning_params,
            settings={**unlearn.training, "seed": seed},
            seed=seed,
        )
        trainings += [whole, *(fold for suite in config.suites for fold in _folds(suite, whole))]
    for training, precision in product(trainings, config.precisions):
        yield Cell(
            training=training,
            precision=precision.name,
            quantizer=precision.quantizer,
            quantizer_params=precision.params,
            subset=config.evaluation.subset,
            limit=config.evaluation.limit,
            extra_tasks=tuple(config.evaluation.extra_tasks),
            chat_template=config.evaluation.chat_template,
            batch_size=config.evaluation.batch_size if precision.name in batched else None,
            retrain_auc=zero,
        )


def _folds(suite: Suite, whole: Training) -> Iterator[Training]:
    parent = None
    for number in range(1, STAGES + 1):
        corpus = whole.corpus.model_copy(update={"forget": f"{suite}/forget_{number}"})
        fold = SuiteStage(suite=suite, number=number, parent=parent)
        training = whole.model_copy(update={"corpus": corpus, "stage": fold})
        yield training
        parent = digest(training) if suite == "sust" else None


def _label(cell: Cell) -> str:
    """The name of a cell's record without the digest."""
    return cell.stem.rpartition("--")[0]


def _difference(found: Cell, promised: Cell) -> str:
    """The first setting in which a cell is not the one promised."""
    one, other = _flat(found.model_dump(mode="json")), _flat(promised.model_dump(mode="json"))
    for place in one | other:
        if one.get(place) != other.get(place):
            return (
                f"cell.{short(place)}: {short(str(one.get(place)))}, config.yaml says "
                f"{short(str(other.get(place)))}"
            )
    return "not the cell that config.yaml names"


def _flat(value: dict[str, Any], before: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, member in value.items():
        if isinstance(member, dict):
            found |= _flat(member, f"{before}{key}.")
        else:
            found[f"{before}{key}"] = member
    return found


def _reference_findings(
    entry: CorpusEntry, references: Mapping[str, Training]
) -> Iterator[Finding]:
    """Whether text and models are those that the configuration names."""
    name = short(entry.name)
    corpus = references["target"].corpus
    for setting in ("forget", "retain", "max_documents"):
        found, expected = getattr(corpus, setting), getattr(entry, setting)
        if found != expected:
            yield Finding(CONFIG, f"{name}: {setting} is {expected}, the records have {found}")
    for role, training in references.items():
        source = getattr(entry, role)
        if source is None:
            continue
        if training.model != ModelId(
            name=source.path, revision=source.revision or training.model.revision
        ):
            yield Finding(CONFIG, f"{name}: the records have another {role} model")
