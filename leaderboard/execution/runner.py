"""Runs a plan: what has no record yet is worked on, and every result becomes a record."""

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
    """A training and those of its cells that have no record yet."""

    planned: PlannedTraining
    cells: list[PlannedCell]


Chain = list[Job]
"""Jobs that go one after the other, because each may start from the checkpoint before it."""

Executor = Callable[[list[Chain], Worker], Iterator[Result]]


@dataclass
class Outcome:
    """How many cells a run has, by what became of them."""

    done: int = 0
    failed: int = 0
    kept: int = 0


class Runner:
    """Runs what a plan still lacks in a run folder.

    Args:
        config: for how models are loaded and evaluated.
        folder: where records and checkpoints go; the caller holds its lock.
        progress: told what is going on.
        retry_failed: whether cells that failed before are tried again; their records are set
            aside, not deleted.
        executor: who does the work; this process where left out.
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
        """Run every cell without a record; a failed one is recorded and the rest goes on.

        Raises:
            InputError: what all cells read is wrong, or a record that is there is damaged.
        """
        records = self.folder.path / "records"
        if any(records.glob("*.json")):
            read_records(self.folder.path)  # a damaged one is told now, not after days
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
    """The plan as chains; one without missing cells is there only to be pruned."""
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
    """Work through one chain, then drop what is not kept of its checkpoints."""
    for job in chain:
        if job.cells:
            yield from worker.run(job.planned, job.cells)
    for job in chain:
        worker.checkpoint(job.planned).prune()
