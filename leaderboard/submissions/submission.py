"""Submission of a method: its part of a grid, checked before it is run."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from unlearners import list_unlearners
from unlearners.testing import check_unlearner

from ..config import CorpusEntry, ModelSource, PrecisionEntry, RunConfig, UnlearnEntry
from ..errors import InputError
from ..grid.plan import PlannedTraining, make_plan
from ..grid.sweep import SweepConfig, entry_of
from ..records.schema import REFERENCES, ModelId
from ..standings.grouping import settings_digest
from .manifest import FILE_NAME, METHOD_NAME, max_bytes

BUILT_IN = "lm-eval-muse"
"""Distribution of the built-in methods."""
LOCAL = "local"
"""Owner of a method that a file registers."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Submission:
    """One method with its part of a grid.

    Attributes:
        method: Registered name of the method.
        config: Configuration of the whole grid.
        plan: Its part of the grid: its own checkpoints, and the target and retrain models.
        plugins: Files that register it, and other files that the grid needs.
        search: Sweep that chose its settings.
    """

    method: str
    config: RunConfig
    plan: list[PlannedTraining]
    plugins: tuple[Path, ...] = ()
    search: SweepConfig | None = None

    @property
    def owner(self) -> str:
        """Distribution that provides the method; ``local`` for a file."""
        return list_unlearners()[self.method]


def submissions(
    config: RunConfig,
    named: Sequence[str] = (),
    plugins: Sequence[Path] = (),
    search: SweepConfig | None = None,
) -> list[Submission]:
    """Create and check one submission per method of a grid, before the grid is run.

    Args:
        config: Configuration of the grid.
        named: Methods to submit; all that are not built in if empty.
        plugins: Files that register methods.
        search: Sweep that chose the settings.

    Raises:
        InputError: A setting does not fit a submission.
        UnlearnerError: A method breaks the contract of methods.
    """
    plan = make_plan(config)
    owners = list_unlearners()
    known = list(dict.fromkeys(entry.method for entry in config.unlearn))
    for name in named:
        if name not in known:
            raise InputError(
                f"--method {name}: the configuration unlearns with {', '.join(known) or 'nothing'}"
            )
    methods = list(dict.fromkeys(named)) or [name for name in known if owners[name] != BUILT_IN]
    if not methods:
        raise InputError(
            f"all methods of the configuration are built in ({', '.join(known)}): choose the one "
            "to submit with --method"
        )
    if not config.evaluation.log_samples:
        raise InputError("evaluation.log_samples: false; a submission needs all answers")
    checked = []
    for method in methods:
        submission = Submission(
            method=method,
            config=config,
            plan=_own_part(plan, method),
            plugins=tuple(plugins),
            search=search,
        )
        _check_plan(submission.plan)
        _check_method(submission)
        checked.append(submission)
    return checked


def _own_part(plan: Sequence[PlannedTraining], method: str) -> list[PlannedTraining]:
    """Select a method's own cells, and those of the target and retrain models of its corpora."""
    corpora = [planned.corpus for planned in plan if planned.training.method == method]
    return [
        planned
        for planned in plan
        if planned.training.method in (*REFERENCES, method) and planned.corpus in corpora
    ]


def _check_plan(plan: Sequence[PlannedTraining]) -> None:
    """Refuse corpora that cannot be submitted.

    Raises:
        InputError: An unsuitable or repeated name, or a corpus without a retrain model.
    """
    references: dict[str, list[str]] = {}
    for planned in plan:
        name = planned.training.corpus.name
        if planned.recipe is None:
            references.setdefault(name, []).append(planned.training.method)
        if not FILE_NAME.fullmatch(name):
            raise InputError(
                f"corpora: '{name}' is part of the names of records; give the folder a name of "
                "ASCII letters, digits, '.', '_' and '-'"
            )
    for name, roles in references.items():
        if "retrain" not in roles:
            raise InputError(
                f"corpora: '{name}' needs `retrain:`, the model trained without the forget set; "
                "scores are relative to it"
            )
        if len(roles) > len(REFERENCES):
            raise InputError(f"corpora: two are called '{name}'; submit them separately")


def _check_method(submission: Submission) -> None:
    """Refuse a method that cannot be submitted.

    Raises:
        InputError: An unsuitable name or file, or settings that the sweep did not try.
        UnlearnerError: The method breaks the contract of methods.
    """
    method = submission.method
    if not METHOD_NAME.fullmatch(method) or method in REFERENCES:
        raise InputError(
            f"method '{method}': the name must match {METHOD_NAME.pattern}, and not be that of a "
            "reference row"
        )
    if submission.owner == LOCAL and not submission.plugins:
        raise InputError(f"method '{method}': give the file that registers it with --plugin")
    for path in submission.plugins:
        if max_bytes(f"source/{path.name}") is None:
            raise InputError(f"--plugin {path}: give the file a name of ASCII letters and digits")
    if len({path.name for path in submission.plugins}) < len(submission.plugins):
        raise InputError("--plugin: two of the files have the same name")
    own = [planned for planned in submission.plan if planned.recipe]
    if submission.search:
        tried = {settings_digest(p.training) for p in make_plan(submission.search.trials())}
        for planned in own:
            if not planned.training.stage and settings_digest(planned.training) not in tried:
                raise InputError(
                    f"--search: '{planned.title}' has settings that the sweep did not try"
                )
    checked: list[Mapping[str, object]] = []
    for planned in own:
        if planned.training.params not in checked:
            checked.append(planned.training.params)
            check_unlearner(method, **planned.training.params)


def resolved(submission: Submission) -> RunConfig:
    """Build the configuration of the submission's own cells, with every setting spelled out.

    Folders of text and models are given by name, without their path.
    """
    entries: list[UnlearnEntry] = []
    corpora: dict[str, CorpusEntry] = {}
    for planned in submission.plan:
        name = planned.training.corpus.name
        if planned.recipe is None:
            entry = corpora.get(name, planned.corpus.entry.model_copy(update={"name": name}))
            models = {planned.training.method: _model(planned)}
            corpora[name] = entry.model_copy(update={"data_dir": None} | models)
        elif not planned.training.stage:
            resolved_entry = entry_of(planned).model_copy(update={"corpora": [name]})
            if resolved_entry not in entries:
                entries.append(resolved_entry)
    precisions = [
        PrecisionEntry(
            quantizer=cell.cell.quantizer,
            params=cell.cell.quantizer_params,
            label=cell.cell.precision,
        )
        for cell in submission.plan[0].cells
    ]
    changes = {"corpora": [*corpora.values()], "precisions": precisions, "training": {}}
    return submission.config.model_copy(update=changes | {"unlearn": entries})


def _model(reference: PlannedTraining) -> ModelSource | None:
    """Return the source of a model; None for one of the demo, which is generated."""
    model = reference.training.model
    if model.revision.startswith("recipe:"):
        return None
    source = reference.corpus.model(reference.training.method)
    # without `tokenizer:` the model's own is used
    tokenizer = reference.training.tokenizer if source and source.tokenizer else None
    return ModelSource(
        path=model.name,
        revision=None if is_local(model) else model.revision,
        tokenizer=tokenizer.name if tokenizer else None,
        tokenizer_revision=None if not tokenizer or is_local(tokenizer) else tokenizer.revision,
    )


def is_local(model: ModelId) -> bool:
    """Return True for a folder, which its digest pins; False for a commit on the hub."""
    return model.revision.startswith("sha256:")
