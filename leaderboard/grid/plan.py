"""Plan of a grid: all cells, with every setting resolved and checked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from quantizers import Quantizer, QuantizerError, get_quantizer
from unlearners import UnlearnerError, get_unlearner
from unlearners.finetuning import get_finetuning

from ..config import (
    PrecisionEntry,
    RunConfig,
    Suite,
    UnlearnEntry,
)
from ..corpora.corpus import CorpusPlan
from ..errors import InputError
from ..evaluation.evaluate import check_extra_tasks
from ..records.schema import (
    REFERENCES,
    Cell,
    SuiteStage,
    Training,
    digest,
)
from ..training.recipe import Recipe, training_settings

STAGES = 4


@dataclass(frozen=True)
class PlannedCell:
    """A cell and its quantizer."""

    cell: Cell
    quantizer: Quantizer


@dataclass(frozen=True)
class PlannedTraining:
    """A checkpoint and its cells.

    Attributes:
        training: Identity of the checkpoint.
        corpus: The corpus with its models.
        cells: The cells in which the checkpoint is evaluated.
        recipe: Method and settings; None for a reference model.
        parent: Training that this one continues; None if it starts from the target.
    """

    training: Training
    corpus: CorpusPlan
    cells: list[PlannedCell]
    recipe: Recipe | None = None
    parent: PlannedTraining | None = None

    @property
    def title(self) -> str:
        """Name for progress messages."""
        t = self.training
        parts = [t.corpus.name, t.method] + ([] if t.is_reference else [t.finetuning])
        if t.stage:
            parts.append(f"{t.stage.suite} {t.stage.number}")
        return " ".join(parts) + (f" seed {t.seed}" if t.seed else "")


def make_plan(config: RunConfig) -> list[PlannedTraining]:
    """Resolve every cell of the grid: references first, then the methods as configured.

    Raises:
        InputError: A setting that cannot work, with its place in the configuration.
    """
    precisions = [
        (entry, _located(f"precisions.{i}", get_quantizer, entry.quantizer, **entry.params))
        for i, entry in enumerate(config.precisions)
    ]
    names = [entry.name for entry, _ in precisions]
    if repeated := {name for name in names if names.count(name) > 1}:
        raise InputError(
            f"precisions: {sorted(repeated)[0]} is given twice; give one of them another `label:`"
        )
    check_extra_tasks(config.evaluation.extra_tasks)
    corpora = [CorpusPlan(entry) for entry in config.corpora]
    plan = [
        reference
        for corpus in corpora
        for role in REFERENCES
        if (reference := _reference(corpus, role, precisions, config))
    ]
    known = [corpus.entry.name for corpus in corpora]
    for i, entry in enumerate(config.unlearn):
        for name in entry.corpora or []:
            if name not in known:
                raise InputError(
                    f"unlearn.{i}.corpora: '{name}' is not among corpora: {', '.join(known)}"
                )
        for corpus in corpora:
            if entry.corpora is None or corpus.entry.name in entry.corpora:
                plan += _unlearned(f"unlearn.{i}", entry, corpus, precisions, config)
    _refuse_duplicates(plan)
    return plan


Precisions = list[tuple[PrecisionEntry, Quantizer]]


def _reference(
    corpus: CorpusPlan, role: str, precisions: Precisions, config: RunConfig
) -> PlannedTraining | None:
    model = corpus.model_id(role)
    if model is None:
        return None
    training = Training(
        corpus=corpus.id,
        model=model,
        tokenizer=corpus.tokenizer_id(role),
        dtype=corpus.dtype(role, config.evaluation.dtype),
        method=role,
        params={},
        finetuning="none",
        finetuning_params={},
        settings={},
        seed=0,
    )
    return PlannedTraining(training, corpus, _cells(training, corpus, precisions, config))


def _unlearned(
    where: str,
    entry: UnlearnEntry,
    corpus: CorpusPlan,
    precisions: Precisions,
    config: RunConfig,
) -> Iterator[PlannedTraining]:
    unlearner = _located(where, get_unlearner, entry.method, **entry.params)
    finetuning = _located(where, get_finetuning, entry.finetuning, **entry.finetuning_params)
    target = corpus.model_id("target")
    if target is None:
        raise InputError(f"corpora: '{corpus.entry.name}' has no target model")
    for seed in config.seeds:
        settings = training_settings(
            f"{where}.training", {**config.training, **entry.training, "seed": seed}
        )
        training = Training(
            corpus=corpus.id,
            model=target,
            tokenizer=corpus.tokenizer_id("target"),
            dtype=corpus.dtype("target", config.evaluation.dtype),
            method=entry.method,
            params=unlearner.to_dict(),
            finetuning=finetuning.name,
            finetuning_params=finetuning.to_dict(),
            settings=settings.to_dict(),
            seed=seed,
        )
        recipe = Recipe(unlearner, finetuning, settings)
        yield PlannedTraining(
            training, corpus, _cells(training, corpus, precisions, config), recipe
        )
        for suite in config.suites:
            yield from _suite_stages(suite, training, corpus, recipe, precisions, config)


def _suite_stages(
    suite: Suite,
    whole: Training,
    corpus: CorpusPlan,
    recipe: Recipe,
    precisions: Precisions,
    config: RunConfig,
) -> Iterator[PlannedTraining]:
    """Plan four growing forget sets, each from the target, or four in sequence."""
    parent: PlannedTraining | None = None
    for number in range(1, STAGES + 1):
        before = digest(parent.training) if parent else None
        training = whole.model_copy(
            update={
                "corpus": whole.corpus.model_copy(update={"forget": f"{suite}/forget_{number}"}),
                "stage": SuiteStage(suite=suite, number=number, parent=before),
            }
        )
        cells = _cells(training, corpus, precisions, config)
        planned = PlannedTraining(training, corpus, cells, recipe, parent)
        yield planned
        if suite == "sust":
            parent = planned


def _cells(
    training: Training, corpus: CorpusPlan, precisions: Precisions, config: RunConfig
) -> list[PlannedCell]:
    settings = config.evaluation
    retrain_auc = corpus.retrain_auc(settings)
    return [
        PlannedCell(
            Cell(
                training=training,
                precision=entry.name,
                quantizer=entry.quantizer,
                quantizer_params=quantizer.to_dict(),
                subset=settings.subset,
                limit=settings.limit,
                extra_tasks=tuple(settings.extra_tasks),
                chat_template=settings.chat_template,
                batch_size=settings.batch_size if quantizer.depends_on_batch else None,
                retrain_auc=retrain_auc,
            ),
            quantizer,
        )
        for entry, quantizer in precisions
    ]


def _located(where: str, build: Any, name: str, **params: Any) -> Any:
    """Build by name; add the place in the configuration to an error."""
    try:
        return build(name, **params)
    except (QuantizerError, UnlearnerError) as error:
        raise InputError(f"{where}: {error}") from error


def _refuse_duplicates(plan: list[PlannedTraining]) -> None:
    for stem, count in Counter(planned.training.stem for planned in plan).items():
        if count > 1:
            raise InputError(f"the configuration asks twice for the same checkpoint: {stem}")
