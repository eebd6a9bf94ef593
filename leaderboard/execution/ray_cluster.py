"""Execution of a grid on a Ray cluster (``--executor ray``).

Every chain of cells is one Ray task. Results stream back to the process that holds the run folder,
the only one that writes records. A worker writes checkpoints into the run folder if it can reach
it, otherwise into its own cache folder.
"""

from __future__ import annotations

import json
import logging
import os
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config import RunConfig
from ..errors import InputError
from ..interrupts import Stopped
from ..records import samples
from ..records.schema import Record
from ..records.survival import SurvivalReport
from .runner import (
    Chain,
    Executor,
    Job,
    Result,
)
from .worker import Worker

ATTEMPTS = 3
"""Number of workers that may be lost on a chain before its cells count as failed."""
FORWARDED = (
    "LM_EVAL_MUSE_CACHE",
    "LM_EVAL_MUSE_ONEDNN",
    "MUSE_DATA_DIR",
    "HF_HOME",
    "HF_TOKEN",
    "HF_HUB_OFFLINE",
)
Reply = tuple[str, bytes, str | None]


@dataclass(frozen=True)
class Order:
    """Message to a worker, which makes the plan again from the same configuration.

    Attributes:
        config: Configuration of the run, as JSON.
        plugins: Name and text of the files given with ``--plugin``.
        folder: Folder of the run.
        stems: Names of the cells to evaluate.
        threads: Number of PyTorch threads.
        cwd: Working folder, for relative paths.
    """

    config: str
    plugins: tuple[tuple[str, str], ...]
    folder: str
    stems: tuple[str, ...]
    threads: int
    cwd: str


class WorkerLostError(RuntimeError):
    """A worker process or its machine ended before its work did."""


def ray_executor(address: str | None, plugins: Sequence[Path], config: RunConfig) -> Executor:
    """Make an executor on a Ray cluster.

    Args:
        address: Address of a running cluster; a local one is started for the run if left out.
        plugins: Files that workers import first.
        config: Configuration of the run.

    Raises:
        InputError: Ray is not installed, or there is no such cluster.
    """
    try:
        import ray
    except ImportError as error:
        raise InputError("--executor ray needs Ray: pip install 'lm-eval-muse[ray]'") from error
    if address:
        _check_address(address)
    sources = tuple((path.name, path.read_text(encoding="utf-8")) for path in plugins)
    resources = config.resources

    def execute(chains: list[Chain], worker: Worker) -> Iterator[Result]:
        variables = {name: os.environ[name] for name in FORWARDED if name in os.environ}
        worker.progress.stage("models of the corpora")
        _provide_models(chains)
        worker.progress.stage("starting Ray")
        ray.init(
            address=address,
            include_dashboard=None if address else False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            runtime_env={"env_vars": variables},
        )
        task = ray.remote(_work).options(
            num_cpus=resources.cpus,
            num_gpus=resources.gpus,
            memory=int(resources.memory_gib * 2**30) if resources.memory_gib else None,
            num_returns="streaming",
            max_retries=0,  # a chain that is tried again has fewer cells left
        )

        def order(chain: Chain) -> Order:
            return Order(
                config=config.model_dump_json(),
                plugins=sources,
                folder=str(worker.folder.path.absolute()),
                stems=tuple(cell.cell.stem for job in chain for cell in job.cells),
                threads=resources.cpus,
                cwd=str(Path.cwd()),
            )

        try:
            yield from _collect(chains, worker, lambda chain: task.remote(order(chain)))
        except SystemError as error:  # so a signal ends what Ray has compiled
            if isinstance(error.__cause__, Stopped):
                raise error.__cause__ from None
            raise
        finally:
            ray.shutdown()

    return execute


def _check_address(address: str) -> None:
    """Refuse an address without a cluster at once; Ray would retry for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, ValueError) as error:
        raise InputError(
            f"--address {address}: no Ray cluster answers there ({error}); expected host:port or "
            "ray://host:port"
        ) from error


def _provide_models(chains: list[Chain]) -> None:
    """Train the demo's models once, before several workers would."""
    for chain in chains:
        for job in chain:
            if job.cells:
                job.planned.corpus.model("target")


def _collect(chains: list[Chain], worker: Worker, submit: Any) -> Iterator[Result]:
    """Yield results of all chains as they come; submit the cells of a lost worker again."""
    import ray

    for chain in chains:
        if not any(job.cells for job in chain):
            for job in chain:
                worker.checkpoint(job.planned).prune()
    waiting = [chain for chain in chains if any(job.cells for job in chain)]
    # short chains last: they fill gaps
    waiting.sort(key=lambda chain: chain[0].planned.recipe is None)
    running: dict[Any, tuple[Chain, int]] = {submit(chain): (chain, 1) for chain in waiting}
    worker.progress.stage(f"{len(running)} chains of cells on Ray")
    while running:
        ready = ray.wait([*running], num_returns=1, timeout=1)[0]
        if not ready:  # a signal is heard between two waits
            continue
        stream: Any = ready[0]
        chain, attempt = running[stream]
        try:
            lines, answers, survival = ray.get(next(stream))
        except StopIteration:
            del running[stream]
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None
        except ray.exceptions.RayError as error:
            del running[stream]
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            left = [Job(job.planned, job.cells) for job in chain]
            if attempt < ATTEMPTS:
                worker.progress.say(f"worker lost, trying again: {reason}")
                running[submit(left)] = (left, attempt + 1)
                continue
            lost = WorkerLostError(f"{ATTEMPTS} workers were lost: {reason}")
            for job in left:
                for cell in job.cells:
                    yield worker.failure(cell, lost)
        else:
            record = Record.model_validate_json(lines)
            report = SurvivalReport.model_validate_json(survival) if survival else None
            yield Result(record, samples.decode(answers), report)
            stem = record.cell.stem
            job = next(job for job in chain for cell in job.cells if cell.cell.stem == stem)
            job.cells[:] = [cell for cell in job.cells if cell.cell.stem != stem]
            worker.progress.stage(f"{job.planned.title}: {record.cell.precision} {record.status}")


def _work(order: Order) -> Iterator[Reply]:
    """Ray task: evaluate the ordered cells; yield record, answers and survival of each."""
    import tempfile

    import torch
    from rich.console import Console

    from harness_tasks.cache import cache_dir

    from ..config import parse
    from ..grid.plan import make_plan
    from ..plugins import load_plugin
    from ..progress import Progress
    from ..records.store import RUN_FILE, RunFolder
    from .runner import run_chain, to_do

    torch.set_num_threads(order.threads)
    if Path(order.cwd).is_dir():
        os.chdir(order.cwd)
    with tempfile.TemporaryDirectory() as temporary:
        for name, source in order.plugins:
            path = Path(temporary, name)
            path.write_text(source, encoding="utf-8")
            load_plugin(path)
    config = parse(RunConfig, json.loads(order.config), "configuration")
    folder = Path(order.folder)
    if not (folder / RUN_FILE).is_file():
        folder = cache_dir() / "ray" / config.name
    store = RunFolder(folder, config.name)
    worker = Worker(config, store, Progress(Console(quiet=True)))
    for chain in to_do(make_plan(config), folder):
        mine = [
            Job(job.planned, [cell for cell in job.cells if cell.cell.stem in order.stems])
            for job in chain
        ]
        if any(job.cells for job in mine):
            for result in run_chain(mine, worker):
                survival = result.survival.model_dump_json() if result.survival else None
                yield result.record.model_dump_json(), samples.encode(result.answers), survival
