"""Runner of a plan: evaluates every cell without a record and records the result."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..config import RunConfig
from ..grid.plan import PlannedCell, PlannedTraining
from ..progress import Progress
from ..records.store import RunFolder, read_records, record_path
from .worker import Result, Worker


@dataclass(frozen=True)
class Job:
    """A training and its cells that have no record yet."""

    planned: PlannedTraining
    cells: list[PlannedCell]


Chain = list[Job]
"""Jobs in sequence: each may start from the checkpoint of the one before."""

Executor = Callable[[list[Chain], Worker], Iterator[Result]]


@dataclass
class Outcome:
    """Number of cells of a run by outcome.

    Attributes:
        done: Evaluated now, with scores.
        failed: Evaluated now, without scores.
        kept: Recorded before.
    """

    done: int = 0
    failed: int = 0
    kept: int = 0


class Runner:
    """Evaluates the cells of a plan that have no record in a run folder.

    Args:
        config: Configuration of the run.
        folder: Folder of the run; the caller holds its lock.
        progress: Progress bars.
        retry_failed: Evaluate cells again that failed before; their records are moved, not
            deleted.
        executor: Runs the chains; this process if left out.
    """

    def __init__(
        self,
        config: RunConfig,
        folder: RunFolder,
        progress: Progress,
        *,
        retry_failed: bool = False,
        executor: Executor | None = None,
    ) -> None:
        self.folder, self.progress = folder, progress
        self.retry_failed = retry_failed
        self.executor = executor or run_here
        self.worker = Worker(config, folder, progress)

    def run(self, plan: list[PlannedTraining]) -> Outcome:
        """Evaluate every cell without a record; a failed cell is recorded too.

        Raises:
            InputError: An input of all cells is wrong, or an existing record is damaged.
        """
        records = self.folder.path / "records"
        if any(records.glob("*.json")):
            read_records(self.folder.path)  # a damaged record is reported now, not after days
        if self.retry_failed:
            self.folder.set_failed_aside()
        cells = sum(len(planned.cells) for planned in plan)
        chains = to_do(plan, self.folder.path)
        outcome = Outcome(kept=cells - sum(len(job.cells) for chain in chains for job in chain))
        self.progress.start(cells)
        self.progress.advance(outcome.kept)
        for result in self.executor(chains, self.worker):
            record = result.record
            if result.survival is not None:
                self.folder.write_survival(result.survival)
            path = self.folder.write_record(record, result.answers)
            outcome.done += record.status == "done"
            outcome.failed += record.status != "done"
            self.progress.advance(1)
            if record.status != "done":
                self.progress.say(f"{record.status}: {path.name}: {record.reason}")
        return outcome


def to_do(plan: list[PlannedTraining], folder: Path) -> list[Chain]:
    """Group a plan into chains; a chain without missing cells is only pruned."""
    chains: dict[str, Chain] = {}
    first: dict[str, str] = {}
    for planned in plan:
        stem = planned.training.stem
        parent = planned.parent.training.stem if planned.parent else stem
        first[stem] = first.get(parent, stem)
        missing = [cell for cell in planned.cells if not record_path(folder, cell.cell).exists()]
        chains.setdefault(first[stem], []).append(Job(planned, missing))
    return list(chains.values())


def run_here(chains: list[Chain], worker: Worker) -> Iterator[Result]:
    """Work through all chains in this process."""
    for chain in chains:
        yield from run_chain(chain, worker)


def run_chain(chain: Chain, worker: Worker) -> Iterator[Result]:
    """Work through one chain, then prune its checkpoints."""
    for job in chain:
        if job.cells:
            yield from worker.run(job.planned, job.cells)
    for job in chain:
        worker.checkpoint(job.planned).prune()
