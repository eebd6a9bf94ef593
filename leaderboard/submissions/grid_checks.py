"""Comparison of the records of a submission with its configuration."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

from harness_tasks.corpora import PUBLISHED

from ..config import CorpusEntry, RunConfig, Suite
from ..grid.plan import STAGES
from ..grid.selection import label
from ..reading.untrusted_files import short
from ..records.flatten import flatten
from ..records.schema import (
    REFERENCES,
    Cell,
    ModelId,
    RetrainAuc,
    SuiteStage,
    Training,
    digest,
)
from .findings import Finding, Records
from .manifest import CONFIG, MAX_FILES


def grid_findings(config: RunConfig, method: str, records: Records) -> Iterator[Finding]:
    """Compare the records with the cells of a resolved configuration.

    Args:
        config: The submitted configuration.
        method: Name of the submitted method.
        records: Records by the path of their file.

    Yields:
        One finding per problem, the configuration's own first.
    """
    yield from _configuration_findings(config, method)
    checkpoints = 2 + len(config.unlearn) * len(config.seeds) * (1 + STAGES * len(config.suites))
    if len(config.corpora) * len(config.precisions) * checkpoints > MAX_FILES:
        yield Finding(CONFIG, f"more than {MAX_FILES} cells")
        return
    expected: dict[str, Cell] = {}
    for entry in config.corpora:
        references = _references(entry, records)
        for role in REFERENCES:
            if role not in references:
                yield Finding(CONFIG, f"no record of {short(entry.name)} {role}")
        if len(references) == len(REFERENCES):
            expected |= {c.stem: c for c in _expected_cells(config, entry, references, records)}
            yield from _reference_findings(entry, references)

    recorded = {record.cell.stem for record in records.values()}
    missing: dict[str, list[Cell]] = defaultdict(list)
    for stem, cell in expected.items():
        if stem not in recorded:
            missing[label(cell)].append(cell)
    for path, record in records.items():
        if record.cell.stem in expected:
            continue
        if candidates := missing[label(record.cell)]:
            yield Finding(path, _difference(record.cell, candidates.pop(0)))
        else:
            yield Finding(path, "config.yaml does not name this cell")
    for name, cells in missing.items():
        yield from [Finding(CONFIG, f"no record of {short(name)}")] * len(cells)


def _configuration_findings(config: RunConfig, method: str) -> Iterator[Finding]:
    """Check the configuration by itself."""
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
        text = "evaluation.subset: `validation` is for choosing settings, `test` for comparing them"
        yield Finding(CONFIG, text, warning=True)


def _references(entry: CorpusEntry, records: Records) -> dict[str, Training]:
    """Find the trainings of target and retrain model in the first record of each."""
    references: dict[str, Training] = {}
    for record in records.values():
        training = record.cell.training
        if training.is_reference and training.corpus.name == entry.name:
            references.setdefault(training.method, training)
    return references


def _expected_cells(
    config: RunConfig,
    entry: CorpusEntry,
    references: Mapping[str, Training],
    records: Records,
) -> Iterator[Cell]:
    """List the cells of the configuration on one corpus, with their settings."""
    plain: dict[str, Any] = {
        "params": {},
        "finetuning": "none",
        "finetuning_params": {},
        "settings": {},
        "seed": 0,
        "stage": None,
    }
    if config.evaluation.dtype != "auto":
        plain["dtype"] = config.evaluation.dtype
    target, retrain = (references[role].model_copy(update=plain) for role in REFERENCES)
    retrain = retrain.model_copy(update={"corpus": target.corpus})
    trainings = [target, retrain]
    for unlearn, seed in product(config.unlearn, config.seeds):
        if unlearn.corpora is not None and entry.name not in unlearn.corpora:
            continue
        changes = {
            "method": unlearn.method,
            "params": unlearn.params,
            "finetuning": unlearn.finetuning,
            "finetuning_params": unlearn.finetuning_params,
            "settings": {**unlearn.training, "seed": seed},
            "seed": seed,
        }
        training = target.model_copy(update=changes)
        trainings.append(training)
        for suite in config.suites:
            trainings += _suite_stages(suite, training)
    # whether outputs depend on the batch is a property of the quantizer, which is not imported
    batched = {r.cell.precision for r in records.values() if r.cell.batch_size is not None}
    settings, retrain_auc = config.evaluation, _retrain_auc(config, retrain)
    for training, precision in product(trainings, config.precisions):
        yield Cell(
            training=training,
            precision=precision.name,
            quantizer=precision.quantizer,
            quantizer_params=precision.params,
            subset=settings.subset,
            limit=settings.limit,
            extra_tasks=tuple(settings.extra_tasks),
            chat_template=settings.chat_template,
            batch_size=settings.batch_size if precision.name in batched else None,
            retrain_auc=retrain_auc,
        )


def _retrain_auc(config: RunConfig, retrain: Training) -> RetrainAuc:
    """Resolve the origin of PrivLeak's zero, as `make_plan` does with a retrained model."""
    published, settings = PUBLISHED.get(retrain.corpus.name), config.evaluation
    if published and settings.subset == "all" and settings.limit is None:
        return RetrainAuc(source="published", value=published.retrain_auc, model=None)
    return RetrainAuc(source="measured", value=None, model=retrain.model)


def _suite_stages(suite: Suite, training: Training) -> Iterator[Training]:
    """Derive the trainings of a suite from that on the whole forget set."""
    parent = None
    for number in range(1, STAGES + 1):
        corpus = training.corpus.model_copy(update={"forget": f"{suite}/forget_{number}"})
        stage = SuiteStage(suite=suite, number=number, parent=parent)
        staged = training.model_copy(update={"corpus": corpus, "stage": stage})
        yield staged
        parent = digest(staged) if suite == "sust" else None


def _difference(submitted: Cell, expected: Cell) -> str:
    """Name the first setting in which two cells differ."""
    submitted_settings = flatten(submitted.model_dump(mode="json"))
    expected_settings = flatten(expected.model_dump(mode="json"))
    for path in submitted_settings | expected_settings:
        if submitted_settings.get(path) != expected_settings.get(path):
            return (
                f"cell.{short(path)}: {short(str(submitted_settings.get(path)))}, config.yaml says "
                f"{short(str(expected_settings.get(path)))}"
            )
    return "not the cell that config.yaml names"


def _reference_findings(
    entry: CorpusEntry, references: Mapping[str, Training]
) -> Iterator[Finding]:
    """Compare text and models with those that the configuration names."""
    name = short(entry.name)
    corpus = references["target"].corpus
    for setting in ("forget", "retain", "max_documents"):
        recorded, expected = getattr(corpus, setting), getattr(entry, setting)
        if recorded != expected:
            yield Finding(CONFIG, f"{name}: {setting} is {expected}, the records have {recorded}")
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


def _is_pinned(model: ModelId, name: str, revision: str | None) -> bool:
    """Return True for a model of this name, at this revision if one is given."""
    return model.name == name and revision in (None, model.revision)
