"""Checks of the records of a submission together: the grid that they promise, on one text."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import product

from harness_tasks.corpora import PUBLISHED

from ..config import CorpusEntry, RunConfig, Suite
from ..grid.plan import STAGES
from ..grid.selection import label
from ..reading.untrusted_files import short
from ..records.flatten import flatten
from ..records.samples import Sample
from ..records.schema import (
    REFERENCES,
    Cell,
    ModelId,
    Record,
    RetrainAuc,
    SuiteStage,
    Training,
    digest,
)
from .findings import Finding
from .manifest import CONFIG, MOST_FILES

Records = Mapping[str, Record]
"""By the path of their file."""


class Together:
    """Memory of the questions asked in the cells of each corpus, which must be the same in all."""

    def __init__(self) -> None:
        self._examples: dict[tuple[str, str], tuple[list[int], str]] = {}
        self._questions: dict[tuple[str, str, int], tuple[bytes, str]] = {}

    def problems(self, record: Record, answers: Sequence[Sample], place: str) -> Iterator[str]:
        """Compare the questions of a cell with those of earlier cells of its corpus.

        Args:
            record: record of the cell.
            answers: its answers.
            place: path of the file that a later problem names.

        Yields:
            one line per difference.
        """
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
    """Compare the records with a resolved configuration.

    Args:
        config: the submitted configuration.
        method: name of the submitted method.
        records: records by the path of their file.
    """
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
            missing[label(cell)].append(cell)
    for place, record in records.items():
        if record.cell.stem in promised:
            continue
        if twins := missing[label(record.cell)]:
            yield Finding(place, _difference(record.cell, twins.pop(0)))
        else:
            yield Finding(place, "config.yaml does not name this cell")
    for name, cells in missing.items():
        for _ in cells:
            yield Finding(CONFIG, f"no record of {short(name)}")


def _configuration_findings(config: RunConfig, method: str) -> Iterator[Finding]:
    """Check a configuration by itself."""
    names = [entry.name for entry in config.corpora]
    if len({*names}) < len(names):
        yield Finding(CONFIG, "corpora: one is given twice")
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
    """Trainings of target and retrain model, as the first record of each has them."""
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
    """List the cells that the configuration names on one corpus, with their settings."""
    plain = {"params": {}, "finetuning": "none", "finetuning_params": {}, "settings": {}}
    if config.evaluation.dtype != "auto":
        plain["dtype"] = config.evaluation.dtype
    target, other = (references[role].model_copy(update=plain) for role in REFERENCES)
    own = {name: getattr(other, name) for name in ("method", "model", "tokenizer", "dtype")}
    retrain = target.model_copy(update=own)
    zero = _retrain_auc(config, retrain)
    # only the quantizer knows whether its outputs depend on the batch
    batched = {
        record.cell.precision for record in records.values() if record.cell.batch_size is not None
    }
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


def _retrain_auc(config: RunConfig, retrain: Training) -> RetrainAuc:
    """Origin of PrivLeak's zero in a grid with a retrained model, as `plan` resolves it."""
    published, settings = PUBLISHED.get(retrain.corpus.name), config.evaluation
    if published and settings.subset == "all" and settings.limit is None:
        return RetrainAuc(source="published", value=published.retrain_auc, model=None)
    return RetrainAuc(source="measured", value=None, model=retrain.model)


def _folds(suite: Suite, whole: Training) -> Iterator[Training]:
    parent = None
    for number in range(1, STAGES + 1):
        corpus = whole.corpus.model_copy(update={"forget": f"{suite}/forget_{number}"})
        fold = SuiteStage(suite=suite, number=number, parent=parent)
        training = whole.model_copy(update={"corpus": corpus, "stage": fold})
        yield training
        parent = digest(training) if suite == "sust" else None


def _difference(found: Cell, promised: Cell) -> str:
    """Name the first setting in which a cell is not the one promised."""
    submitted = flatten(found.model_dump(mode="json"))
    expected = flatten(promised.model_dump(mode="json"))
    for path in submitted | expected:
        if submitted.get(path) != expected.get(path):
            return (
                f"cell.{short(path)}: {short(str(submitted.get(path)))}, config.yaml says "
                f"{short(str(expected.get(path)))}"
            )
    return "not the cell that config.yaml names"


def _reference_findings(
    entry: CorpusEntry, references: Mapping[str, Training]
) -> Iterator[Finding]:
    """Compare text and models with those that the configuration names."""
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
        if not _is_pinned(training.model, source.path, source.revision):
            yield Finding(CONFIG, f"{name}: the records have another {role} model")
        tokenizer, revision = source.tokenizer, source.tokenizer_revision
        if tokenizer is None:
            tokenizer, revision = source.path, source.revision
        if training.tokenizer and not _is_pinned(training.tokenizer, tokenizer, revision):
            yield Finding(CONFIG, f"{name}: the records have another tokenizer of {role}")


def _is_pinned(found: ModelId, name: str, revision: str | None) -> bool:
    """True for a model of this name, at this revision where one is given."""
    return found.name == name and revision in (None, found.revision)
