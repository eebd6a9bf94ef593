"""Consoles, exit codes, options and helpers that the commands share."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

if TYPE_CHECKING:
    from ..config import RunConfig
    from ..execution.runner import Executor, Outcome
    from ..grid.plan import PlannedTraining

FAILED_CELLS = 1
BAD_INPUT = 2

out = Console()
err = Console(file=sys.stderr)  # the stream itself: evaluation redirects sys.stderr

PluginOption = Annotated[
    list[Path] | None,
    typer.Option("--plugin", help="Python file that registers a method or quantizer."),
]
RetryOption = Annotated[
    bool, typer.Option("--retry-failed", help="Run cells again that failed or diverged.")
]


def say(line: str) -> None:
    """Print a line about the work to standard error, as it is."""
    err.print(line, markup=False, highlight=False, soft_wrap=True)


def show(line: str) -> None:
    """Print a line of the result to standard output, as it is."""
    out.print(line, markup=False, highlight=False, soft_wrap=True)


def load_plugins(paths: list[Path] | None) -> None:
    """Import the files given with ``--plugin``."""
    from ..plugins import load_plugin

    for path in paths or []:
        load_plugin(path)


def main_console() -> Console:
    """Console for messages; quiet in all but the main process."""
    from ..processes import join_processes

    return err if join_processes().is_main_process else Console(quiet=True)


def run_plan(
    config: RunConfig,
    folder: Path,
    plan: list[PlannedTraining] | None = None,
    *,
    retry_failed: bool = False,
    executor: Executor | None = None,
) -> Outcome:
    """Run the cells of a plan that are not recorded, with the run folder locked.

    Args:
        config: Configuration of the run.
        folder: Folder of the run.
        plan: The plan, or a selection of it; the whole plan if left out.
        retry_failed: Evaluate cells again that failed before.
        executor: Runs the chains; this process if left out.
    """
    from ..execution.runner import Runner
    from ..grid.plan import make_plan
    from ..progress import Progress
    from ..records.store import RunFolder

    plan = make_plan(config) if plan is None else plan
    store = RunFolder(folder, config.name)
    with store.lock(), Progress(err) as progress:
        runner = Runner(config, store, progress, retry_failed=retry_failed, executor=executor)
        return runner.run(plan)


def parse_settings(pairs: list[str] | None) -> dict[str, Any]:
    """Parse ``name=value`` pairs with values as YAML.

    Raises:
        InputError: A pair without "=".
    """
    import yaml

    from ..errors import InputError

    found = {}
    for pair in pairs or []:
        name, equals, value = pair.partition("=")
        if not equals:
            raise InputError(f"'{pair}': expected name=value")
        found[name] = yaml.safe_load(value)
    return found
