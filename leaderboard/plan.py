"""From a configuration to the cells of its grid, every setting resolved and checked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

from pydantic import TypeAdapter, ValidationError

from harness_tasks.corpora import Corpus, load_corpus
from quantizers import Quantizer, QuantizerError, get_quantizer
from unlearners import Unlearner, UnlearnerError, UnlearningData, get_unlearner
from unlearners.finetuning import Finetuning, get_finetuning
from unlearners.training import TrainingSettings

from .cell import REFERENCES, Cell, CorpusId, Fold, ModelId, Training, digest
from .config import CorpusEntry, ModelSource, PrecisionEntry, RunConfig, Suite, UnlearnEntry
from .demo_models import demo_digest, demo_models
from .errors import InputError
from .evaluation import check_extra_tasks
from .models import identify

FOLDS = 4
PUBLISHED_MODELS = {
    ("news", "target"): ModelSource(
        path="muse-bench/MUSE-News_target", revision="a2f39769e9a0b98ec1cdd12f65e9962502208935"
    ),
    ("news", "retrain"): ModelSource(
        path="muse-bench/MUSE-News_retrain", revision="324ef49ee0a038078aba7d8de831edf57235c9b3"
    ),
    ("books", "target"): ModelSource(
        path="muse-bench/MUSE-Books_target", revision="c8dd3fb23a726762ec66d277933c7cff6767f3c2"
    ),
    ("books", "retrain"): ModelSource(
        path="muse-bench/MUSE-Books_retrain", revision="1d67430e4e8bdf2a65823740e909792519175ac2"
    ),
}


class CorpusPlan:
    """A corpus of the configuration and where its two models are."""

    def __init__(self, entry: CorpusEntry) -> None:
        self.entry = entry

    @cached_property
    def corpus(self) -> Corpus:
        """The corpus itself."""
        return load_corpus(self.entry.name, self.entry.data_dir)

    @cached_property
    def id(self) -> CorpusId:
        """What pins the text."""
        return CorpusId(
            name=self.corpus.name,
            source=self.corpus.source,
            revision=self.corpus.revision,
            fingerprint=self.corpus.fingerprint,
            forget=self.entry.forget,
            retain=self.entry.retain,
            max_documents=self.entry.max_documents,
        )

    @property
    def _is_demo(self) -> bool:
        return self.entry.name == "demo" and self._has_default_models

    @property
    def _has_default_models(self) -> bool:
        """Whether the corpus' own models are meant; a user's target has no published retrain."""
        return self.entry.target is None and self.entry.retrain is None

    def model(self, role: str) -> ModelSource | None:
        """Where the ``target`` or ``retrain`` model is; the demo's is trained if need be.

        Raises:
            InputError: the configuration names no target and the corpus has no published one.
        """
        if self._is_demo:
            return ModelSource(path=str(getattr(demo_models(), role)))
        name = self.corpus.name
        source: ModelSource | None = getattr(self.entry, role)
        if self._has_default_models:
            source = PUBLISHED_MODELS.get((name, role))
        if source is None and role == "target":
            raise InputError(f"corpora: '{name}' needs `target:`, the model to unlearn from")
        return source

    def model_id(self, role: str) -> ModelId | None:
        """What pins those weights, without training or loading anything."""
        if self._is_demo:
            return ModelId(name=f"demo-{role}", revision=f"recipe:{demo_digest()}")
        source = self.model(role)
        return identify(source) if source else None

    def data(self, forget: str) -> UnlearningData:
        """The text of the split ``forget``, to unlearn, and the text that is kept."""
        first = slice(self.entry.max_documents)
        return UnlearningData(
            forget=self.corpus.texts(forget)[first],
            retain=self.corpus.texts(self.entry.retain)[first],
        )


@dataclass(frozen=True)
class PlannedCell:
    """A cell and the quantizer that makes it."""

    cell: Cell
    quantizer: Quantizer


@dataclass(frozen=True)
class Recipe:
    """How a checkpoint is made from the target model."""

    unlearner: Unlearner
    finetuning: Finetuning
    settings: TrainingSettings


@dataclass(frozen=True)
class PlannedTraining:
    """A checkpoint and the cells it feeds; without a recipe it is a reference model.

    Attributes:
        parent: the training whose checkpoint this one starts from; the target model where None.
    """

    training: Training
    corpus: CorpusPlan
    cells: list[PlannedCell]
    recipe: Recipe | None = None
    parent: PlannedTraining | None = None

    @property
    def title(self) -> str:
        """For people: what is being worked on."""
        t = self.training
        parts = [t.corpus.name, t.method] + ([] if t.is_reference else [t.finetuning])
        if t.fold:
            parts.append(f"{t.fold.suite} {t.fold.number}")
        return " ".join(parts) + (f" seed {t.seed}" if t.seed else "")


def make_plan(config: RunConfig) -> list[PlannedTraining]:
    """Resolve every cell of the grid: references first, then the methods as configured.

    Raises:
        InputError: a setting that cannot work, with its place in the configuration.
    """
    precisions = [
        (entry, _located(f"precisions.{i}", get_quantizer, entry.quantizer, **entry.params))
        for i, entry in enumerate(config.precisions)
    ]
    names = [entry.name for entry, _ in precisions]
    if repeated := {name for name in names if names.count(name) > 1}:
        raise InputError(
            f"precisions: {sorted(repeated)[0]} stands twice; give one of them another `label:`"
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
    _refuse_twins(plan)
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
        method=role,
        params={},
        finetuning="none",
        finetuning_params={},
        settings={},
        seed=0,
    )
    return PlannedTraining(training, corpus, _cells(training, precisions, config))


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
            method=entry.method,
            params=unlearner.to_dict(),
            finetuning=finetuning.name,
            finetuning_params=finetuning.to_dict(),
            settings=settings.to_dict(),
            seed=seed,
        )
        recipe = Recipe(unlearner, finetuning, settings)
        yield PlannedTraining(training, corpus, _cells(training, precisions, config), recipe)
        for suite in config.suites:
            yield from _folds(suite, training, corpus, recipe, precisions, config)


def _folds(
    suite: Suite,
    whole: Training,
    corpus: CorpusPlan,
    recipe: Recipe,
    precisions: Precisions,
    config: RunConfig,
) -> Iterator[PlannedTraining]:
    """Four growing forget sets, each from the target, or four one after another."""
    parent: PlannedTraining | None = None
    for number in range(1, FOLDS + 1):
        before = digest(parent.training) if parent else None
        training = whole.model_copy(
            update={
                "corpus": whole.corpus.model_copy(update={"forget": f"{suite}/forget_{number}"}),
                "fold": Fold(suite=suite, number=number, parent=before),
            }
        )
        cells = _cells(training, precisions, config)
        planned = PlannedTraining(training, corpus, cells, recipe, parent)
        yield planned
        if suite == "sust":
            parent = planned


def _cells(training: Training, precisions: Precisions, config: RunConfig) -> list[PlannedCell]:
    return [
        PlannedCell(
            Cell(
                training=training,
                precision=entry.name,
                quantizer=entry.quantizer,
                quantizer_params=quantizer.to_dict(),
                subset=config.evaluation.subset,
                limit=config.evaluation.limit,
                extra_tasks=tuple(config.evaluation.extra_tasks),
            ),
            quantizer,
        )
        for entry, quantizer in precisions
    ]


def training_settings(where: str, values: dict[str, Any]) -> TrainingSettings:
    """Check the values of a training.

    Raises:
        InputError: an unknown setting or a wrong value; ``where`` says where it stands.
    """
    known = [setting.name for setting in fields(TrainingSettings)]
    for name in values:
        if name not in known:
            raise InputError(f"{where}: unknown setting '{name}': available: {', '.join(known)}")
    try:
        return TypeAdapter(TrainingSettings).validate_python(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        path = ".".join(map(str, (where, *first["loc"])))
        raise InputError(f"{path}: {first['msg'].removeprefix('Value error, ')}") from error


def _located(where: str, build: Any, name: str, **params: Any) -> Any:
    """Build by name; an error says where in the configuration it comes from."""
    try:
        return build(name, **params)
    except (QuantizerError, UnlearnerError) as error:
        raise InputError(f"{where}: {error}") from error


def _refuse_twins(plan: list[PlannedTraining]) -> None:
    stems = [planned.training.stem for planned in plan]
    for stem in stems:
        if stems.count(stem) > 1:
            raise InputError(f"the configuration asks twice for the same checkpoint: {stem}")
