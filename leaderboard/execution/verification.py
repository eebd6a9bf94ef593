"""Re-evaluate a record's cell and compare the results field by field.

On the machine that made a record, with the same versions, every number and answer is the same, bit
by bit. Elsewhere kernels sum in another order, near-ties between two tokens resolve differently and
training amplifies the difference; there a metric may differ by its recorded standard error.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from ..config import RunConfig
from ..errors import InputError
from ..grid.plan import PlannedCell, PlannedTraining
from ..grid.selection import label
from ..progress import Progress
from ..records import samples
from ..records.flatten import flatten
from ..records.samples import Sample
from ..records.schema import Metric, Provenance, Record
from ..records.store import RunFolder, checkpoints
from .worker import Result, Worker

TrainingPolicy = Literal["missing", "never", "always"]

ENVIRONMENT = ("python", "platform", "device", "threads", "onednn")
"""Parts of the provenance that decide numbers, packages aside."""
RESULTS = {
    "status",
    "reason",
    "bits",
    "dtype",
    "metrics",
    "examples",
    "survival",
    "calibration",
    "extra",
    "samples",
}
NUMBERS = ("metrics", "extra")
ERRORS = (".stderr", ".low", ".high")
FOLLOWING = ("examples", "survival", "samples")
"""Fields that cannot stay the same, digit by digit, where numbers differ at all."""


@dataclass(frozen=True)
class Difference:
    """Field of a record with another value than before.

    Attributes:
        path: Path in the record, for example ``metrics.knowmem.value``.
        recorded: Value in the record; None if it has none.
        found: Value now; None if there is none.
        allowed: True if the tolerance covers it.
    """

    path: str
    recorded: Any
    found: Any
    allowed: bool

    def __str__(self) -> str:
        note = " (within the tolerance)" if self.allowed else ""
        return f"{self.path}: {self.recorded} recorded, {self.found} found{note}"


def find_cell(
    plan: Sequence[PlannedTraining], record: Record
) -> tuple[PlannedTraining, PlannedCell]:
    """Find the cell of a plan that a record belongs to.

    Raises:
        InputError: There is none; the message names the first difference of the nearest one.
    """
    if record.schema_version == 1:
        raise InputError(
            "the record is of version 1, which does not hold dtype and tokenizer: run its "
            "cell again with this version"
        )
    name = label(record.cell)
    wanted = flatten(record.cell.model_dump(mode="json"))
    apart = []
    for planned in plan:
        for cell in planned.cells:
            if label(cell.cell) != name:
                continue
            if not (found := list(_unequal(wanted, flatten(cell.cell.model_dump(mode="json"))))):
                return planned, cell
            apart.append(found)
    if not apart:
        raise InputError(f"the configuration has no cell {name}, which the record is about")
    place, recorded, planned_value = min(apart, key=len)[0]
    raise InputError(
        f"the record is about other settings than the configuration's {name}: {place}: "
        f"{recorded!r} in the record, {planned_value!r} in the configuration"
    )


def environment_differences(recorded: Provenance, here: Provenance) -> list[str]:
    """List differences of the environment that affect numbers, one line each.

    Packages count if they were installed where the record was made.
    """
    names = recorded.packages.keys()
    parts = [part for part in ENVIRONMENT if getattr(recorded, part) is not None]
    was, now = (
        flatten(
            {part: getattr(one, part) for part in parts}
            | {name: one.packages.get(name) for name in names}
        )
        for one in (recorded, here)
    )
    return [f"{place}: {one} recorded, {other} here" for place, one, other in _unequal(was, now)]


def to_train(planned: PlannedTraining, run: Path) -> list[PlannedTraining]:
    """List the trainings needed for a checkpoint: those that the run folder does not hold."""
    kept = checkpoints(run)
    missing = []
    step: PlannedTraining | None = planned
    while step and step.recipe and step.training.stem not in kept:
        missing.append(step)
        step = step.parent
    return missing


def evaluate_again(
    config: RunConfig,
    planned: PlannedTraining,
    cell: PlannedCell,
    record: Record,
    run: Path,
    training: TrainingPolicy,
    progress: Progress,
) -> Result:
    """Evaluate a record's cell again in a temporary folder; the run folder is only read.

    Args:
        config: Configuration of the grid.
        planned: Training of the cell.
        cell: The cell.
        record: Its record.
        run: Folder of the run, for its checkpoints.
        training: Train the checkpoint again if it is ``missing``, ``never`` or ``always``.
        progress: Progress bars.

    Raises:
        InputError: The checkpoint is missing and ``training`` is ``never``.
    """
    missing = to_train(planned, run)
    if missing and training == "never":
        raise InputError(
            f"{run} no longer holds the checkpoint {planned.training.stem}, and --training never "
            "forbids to train it again"
        )
    if planned.recipe and (missing or training == "always"):
        progress.say(
            f"training {planned.training.stem} again, in a temporary folder"
            + ("" if training == "always" else ": the run's folder no longer holds it")
        )
    settings = config.evaluation.model_copy(update={"log_samples": record.samples is not None})
    config = config.model_copy(update={"evaluation": settings})
    with tempfile.TemporaryDirectory(prefix="lm-eval-muse-verify-") as temporary:
        folder = RunFolder(Path(temporary, "run"), config.name)
        if training != "always":
            _link_checkpoints(planned, run, folder)
        (result,) = Worker(config, folder, progress).run(planned, [cell])
    if not result.answers:
        return result
    digest = samples.sha256(samples.encode(result.answers))
    return replace(result, record=result.record.model_copy(update={"samples": digest}))


def _link_checkpoints(planned: PlannedTraining, run: Path, folder: RunFolder) -> None:
    """Link the checkpoints of a run into another run folder; the worker only reads them."""
    step: PlannedTraining | None = planned
    while step:
        for kept in ("model", "adapter"):
            source = run / "checkpoints" / step.training.stem / kept
            if source.is_dir():
                place = folder.checkpoint_path(step.training)
                place.mkdir(parents=True, exist_ok=True)
                (place / kept).symlink_to(source.resolve(), target_is_directory=True)
        step = step.parent


def differences(recorded: Record, found: Record, *, exact: bool) -> list[Difference]:
    """List all fields in which two records of a cell differ, times aside.

    Args:
        recorded: The record.
        found: The new one.
        exact: Allow no difference. Otherwise a metric may differ by its recorded standard error,
            and standard errors, survival and answers may differ.
    """
    # as it would be read back: what JSON cannot hold is None in a file
    found = Record.model_validate_json(found.model_dump_json())
    return [
        Difference(place, was, now, not exact and _covered(place, was, now, recorded))
        for place, was, now in _unequal(_results(recorded), _results(found))
    ]


def answer_differences(recorded: Sequence[Sample], found: Sequence[Sample]) -> Iterator[str]:
    """Yield a line for each answer that differs: task, example, both values."""
    was, now = ({(one.task, one.example): one for one in some} for some in (recorded, found))
    for key in was | now:
        one, other = (
            answers[key].model_dump(exclude_none=True) if key in answers else {}
            for answers in (was, now)
        )
        for place, before, after in _unequal(one, other):
            yield f"{key[0]} {key[1]}: {place}: {before!r} recorded, {after!r} found"
            break  # the rest of an answer follows from its first difference


def _covered(place: str, was: Any, now: Any, recorded: Record) -> bool:
    part = place.partition(".")[0]
    if part in FOLLOWING or (part in NUMBERS and place.endswith(ERRORS)):
        return True
    if part not in NUMBERS or was is None or now is None:
        return False
    group: dict[str, Metric] = getattr(recorded, part)
    stderr = group[place.removeprefix(f"{part}.").removesuffix(".value")].stderr
    return stderr is not None and abs(was - now) <= stderr


def _results(record: Record) -> dict[str, Any]:
    """Results in a record, by dotted path."""
    made = record.provenance.model_dump(include={"tasks", "retrain_auc"})
    return flatten(record.model_dump(include=RESULTS) | {"provenance": made})


def _unequal(one: dict[str, Any], other: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    for place in one | other:
        if one.get(place) != other.get(place):
            yield place, one.get(place), other.get(place)
