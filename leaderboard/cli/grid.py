"""Commands on grids: demo, run, sweep."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from .common import (
    FAILED_CELLS,
    PluginOption,
    RetryOption,
    err,
    load_plugins,
    out,
    run_plan,
    say,
    show,
)
from .table import table

if TYPE_CHECKING:
    from ..config import RunConfig
    from ..execution.runner import Executor
    from ..grid.plan import PlannedTraining

DEMO_CONFIG = Path(__file__).parents[1] / "configs" / "demo.yaml"

app = typer.Typer()

ExecutorOption = Annotated[
    Literal["local", "ray"], typer.Option(help="Run in this process or on a Ray cluster.")
]
AddressOption = Annotated[
    str | None, typer.Option(help="Address of a running Ray cluster; a local one if left out.")
]
OutOption = Annotated[Path, typer.Option("--out", "-o", help="Folder of the run.")]


@app.command()
def demo(
    out_dir: OutOption = Path("runs/demo"),
    models_only: Annotated[
        bool, typer.Option("--models-only", help="Only train the models and print their folders.")
    ] = False,
) -> None:
    """Train the demo's models, run its grid and print the table, all offline."""
    import os

    from ..config import load_config
    from ..corpora.demo_models import demo_models
    from ..progress import Progress

    os.environ.setdefault("LM_EVAL_MUSE_ONEDNN", "1")  # faster on AMD processors
    with Progress(err) as progress:
        models = demo_models(progress=progress)
    if models_only:
        out.print(f"target   {models.target}\nretrain  {models.retrain}", soft_wrap=True)
        return
    outcome = run_plan(load_config(DEMO_CONFIG), out_dir)
    table(out_dir)
    raise typer.Exit(FAILED_CELLS if outcome.failed else 0)


@app.command()
def run(
    config: Annotated[Path, typer.Argument(help="The grid, as YAML.")],
    out_dir: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder of the run; runs/<name> if left out.")
    ] = None,
    plugin: PluginOption = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            help="Only cells with a matching name, for example '*--lora--*' (repeatable)."
        ),
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(help="No cells with a matching name (repeatable).")
    ] = None,
    executor: ExecutorOption = "local",
    address: AddressOption = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="List all cells, recorded or to do, and the time left; run nothing."
        ),
    ] = False,
    retry_failed: RetryOption = False,
) -> None:
    """Run a grid, or what is left of it, and print its table."""
    from ..config import load_config
    from ..grid.plan import make_plan
    from ..grid.selection import select

    load_plugins(plugin)
    settings = load_config(config)
    folder = out_dir or Path("runs") / settings.name
    plan = select(make_plan(settings), only or (), exclude or ())
    if dry_run:
        _list_cells(plan, folder)
        return
    engine = _engine(executor, address, plugin, settings)
    outcome = run_plan(settings, folder, plan, retry_failed=retry_failed, executor=engine)
    table(folder)
    raise typer.Exit(FAILED_CELLS if outcome.failed else 0)


@app.command()
def sweep(
    config: Annotated[Path, typer.Argument(help="The search, as YAML.")],
    out_dir: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder of the run; runs/<name> if left out.")
    ] = None,
    plugin: PluginOption = None,
    executor: ExecutorOption = "local",
    address: AddressOption = None,
) -> None:
    """Search settings on half of the examples; write a grid of the best for the other half."""
    import yaml

    from unlearners.files import replace_file

    from ..grid.plan import make_plan
    from ..grid.sweep import RULE, load_sweep, select
    from ..records.store import read_records
    from ..standings.table import build_table

    load_plugins(plugin)
    search = load_sweep(config)
    trials = search.trials()
    folder = out_dir or Path("runs") / search.name
    engine = _engine(executor, address, plugin, trials)
    outcome = run_plan(trials, folder, executor=engine)
    table(folder)
    entries, lines = select(build_table(read_records(folder)), make_plan(trials))
    for line in lines:
        show(line)
    content = yaml.safe_dump(search.chosen(entries).model_dump(mode="json"), sort_keys=False)
    comment = "".join(f"# {line}\n" for line in (f"Chosen by: {RULE}.", *lines))
    replace_file(folder / "chosen.yaml", comment + content)
    say(f"written: {folder / 'chosen.yaml'}")
    raise typer.Exit(FAILED_CELLS if outcome.failed else 0)


def _engine(
    name: str, address: str | None, plugins: list[Path] | None, config: RunConfig
) -> Executor | None:
    """Executor chosen on the command line; None for this process."""
    from ..errors import InputError
    from ..execution.ray_cluster import ray_executor

    if name == "ray":
        return ray_executor(address, plugins or (), config)
    if address:
        raise InputError("--address is for --executor ray")
    return None


def _list_cells(plan: list[PlannedTraining], folder: Path) -> None:
    from datetime import timedelta

    from ..execution.runner import to_do
    from ..execution.time_left import estimate
    from ..records.store import checkpoints, read_records, record_path

    cells = [cell.cell for planned in plan for cell in planned.cells]
    recorded = [cell for cell in cells if record_path(folder, cell).exists()]
    for cell in cells:
        state = "recorded" if cell in recorded else "to do"
        show(f"{state:9} {cell.stem}")
    trained = checkpoints(folder)
    left = estimate(to_do(plan, folder), trained, read_records(folder) if recorded else [])
    line = f"{len(cells)} cells, {len(recorded)} recorded"
    if left.seconds:
        line += f"; about {timedelta(seconds=round(left.seconds))} left for one worker"
    if left.unknown:
        line += f"; no timing data yet for {left.unknown} trainings and cells"
    out.print(line, highlight=False)
