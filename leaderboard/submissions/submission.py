"""Submission of a method: its part of a grid, checked before any time is spent on it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from unlearners import list_unlearners
from unlearners.testing import check_contract

from ..config import (
    CorpusEntry,
    ModelSource,
    PrecisionEntry,
    RunConfig,
    UnlearnEntry,
)
from ..errors import InputError
from ..grid.plan import PlannedTraining, make_plan
from ..grid.sweep import SweepConfig, entry_of
from ..records.schema import REFERENCES, ModelId
from ..standings.grouping import settings_digest
from . import manifest as layout

BUILT_IN = "lm-eval-muse"
LOCAL = "local"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Submission:
    """One method with its part of a grid.

    Attributes:
        method: registered name of the method.
        config: the grid that it is run in.
        plan: part of the grid that belongs to it: its own cells, and those of target and retrain.
        plugins: files that register it, and other files that the grid needs.
        search: sweep that its settings were chosen by.
    """

    method: str
    config: RunConfig
    plan: list[PlannedTraining]
    plugins: tuple[Path, ...] = ()
    search: SweepConfig | None = None

    @property
    def owner(self) -> str:
        """Distribution that the method comes from; ``local`` for a file."""
        return list_unlearners()[self.method]


def submissions(
    config: RunConfig,
    named: Sequence[str] = (),
    plugins: Sequence[Path] = (),
    search: SweepConfig | None = None,
) -> list[Submission]:
    """Make one submission for each method of a grid that is not built in, or that is named.

    Everything that can be known before the grid is run is checked here.

    Args:
        config: the grid.
        named: methods to submit; those that are not built in where left out.
        plugins: files that register methods.
        search: sweep that the settings were chosen by.

    Raises:
        InputError: a setting does not fit a submission.
        UnlearnerError: a method breaks the contract of methods.
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
            f"all methods of the configuration are built in ({', '.join(known)}): name the one to "
            "submit with --method"
        )
    if not config.evaluation.log_samples:
        raise InputError("evaluation.log_samples: false; a submission needs every answer")
    found = [
        Submission(
            method=method,
            config=config,
            plan=_part(plan, method),
            plugins=tuple(plugins),
            search=search,
        )
        for method in methods
    ]
    for submission in found:
        _check_plan(submission.plan)
        _check_method(submission)
    return found


def _part(plan: Sequence[PlannedTraining], method: str) -> list[PlannedTraining]:
    """Select a method's own cells, and those of the target and retrain models of its corpora."""
    corpora = [planned.corpus for planned in plan if planned.training.method == method]
    return [
        planned
        for planned in plan
        if planned.training.method in (*REFERENCES, method) and planned.corpus in corpora
    ]


def _check_plan(plan: Sequence[PlannedTraining]) -> None:
    references: dict[str, list[str]] = {}
    for planned in plan:
        name = planned.training.corpus.name
        if planned.recipe is None:
            references.setdefault(name, []).append(planned.training.method)
        if not layout.FILE_NAME.fullmatch(name):
            raise InputError(
                f"corpora: '{name}': records are named by it; give the folder a name of ASCII "
                "letters, digits, '.', '_' and '-'"
            )
    for name, roles in references.items():
        if "retrain" not in roles:
            raise InputError(
                f"corpora: '{name}' needs `retrain:`, the model trained without the forget set, "
                "that scores are relative to"
            )
        if len(roles) > len(REFERENCES):
            raise InputError(f"corpora: two are called '{name}'; submit one of them at a time")


def _check_method(submission: Submission) -> None:
    method = submission.method
    if not layout.METHOD_NAME.fullmatch(method) or method in REFERENCES:
        raise InputError(
            f"method '{method}': a submitted method has a name of at most 64 characters, and not "
            "that of a reference row"
        )
    if submission.owner == LOCAL and not submission.plugins:
        raise InputError(f"method '{method}': name the file it comes from with --plugin")
    for path in submission.plugins:
        if layout.most_bytes(f"source/{path.name}") is None:
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
            check_contract(method, **planned.training.params)


def resolved(submission: Submission) -> RunConfig:
    """Configuration of the submission's cells alone, with every setting spelled out.

    Folders of text and models are given by name, without the path on this machine.
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
            found = entry_of(planned).model_copy(update={"corpora": [name]})
            entries += [found] if found not in entries else []
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
    """Source of a model; None for the demo's, which every installation makes itself."""
    model = reference.training.model
    if model.revision.startswith("recipe:"):
        return None
    source = reference.corpus.model(reference.training.method)
    # without `tokenizer:` it is the model's own
    tokenizer = reference.training.tokenizer if source and source.tokenizer else None
    return ModelSource(
        path=model.name,
        revision=None if is_local(model) else model.revision,
        tokenizer=tokenizer.name if tokenizer else None,
        tokenizer_revision=None if not tokenizer or is_local(tokenizer) else tokenizer.revision,
    )


def is_local(model: ModelId) -> bool:
    """True for a folder, which its digest pins; False for a commit on the hub."""
    return model.revision.startswith("sha256:")
