"""The command line: ``lm-eval-muse``.

Commands import what they need when they run, so that ``--help`` is quick.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from .cli_corpus import app as corpus
from .cli_steps import FAILED_CELLS, PluginOption, RetryOption, err, load_plugins, out
from .cli_steps import app as steps
from .cli_submission import app as submissions
from .cli_table import app as tables
from .cli_table import table
from .cli_verify import app as verification
from .stopping import Stopped

if TYPE_CHECKING:
    from .config import RunConfig
    from .plan import PlannedTraining
    from .runner import Executor, Outcome

BAD_INPUT = 2
DEMO_CONFIG = Path(__file__).parent / "configs" / "demo.yaml"

app = typer.Typer(
    name="lm-eval-muse",
    help="Does unlearned text stay unlearned after quantization?",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(steps)
app.add_typer(tables)
app.add_typer(submissions)
app.add_typer(verification)
app.add_typer(corpus, name="corpus")

ExecutorOption = Annotated[
    Literal["local", "ray"], typer.Option(help="Who works: this process or a Ray cluster.")
]
AddressOption = Annotated[
    str | None, typer.Option(help="Of a running Ray cluster; a local one if left out.")
]
OutOption = Annotated[Path, typer.Option("--out", "-o", help="Folder of the run.")]


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option(help="Show a traceback with every error.")] = False,
) -> None:
    os.environ["LM_EVAL_MUSE_DEBUG"] = "1" if debug else ""


@app.command()
def demo(
    out_dir: OutOption = Path("runs/demo"),
    models_only: Annotated[
        bool, typer.Option("--models-only", help="Only build the models and print their folders.")
    ] = False,
) -> None:
    """The whole story offline: train the demo's models, run its grid, print the table."""
    from .config import load_config
    from .demo_models import demo_models
    from .progress import Progress

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
        typer.Option(help="Only cells with such a name, for example '*--lora--*' (repeatable)."),
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(help="No cells with such a name (repeatable).")
    ] = None,
    executor: ExecutorOption = "local",
    address: AddressOption = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="List the cells, which are recorded, and the time left; run nothing."
        ),
    ] = False,
    retry_failed: RetryOption = False,
) -> None:
    """Run a grid, or the rest of it, and print its table."""
    from .config import load_config
    from .plan import make_plan
    from .selection import select

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
def schema(
    kind: Annotated[
        Literal["run", "sweep", "record", "survival"], typer.Argument(help="Kind of file.")
    ] = "run",
) -> None:
    """Print the JSON schema of a configuration or of a result.

    Editors check the YAML of a grid (run) or a search (sweep) against it; a record and a survival
    report are documented by it, field by field.
    """
    import json

    from pydantic import BaseModel

    from .config import RunConfig
    from .records.schema import Record
    from .records.survival import SurvivalReport
    from .sweep import SweepConfig

    models: dict[str, type[BaseModel]] = {
        "run": RunConfig,
        "sweep": SweepConfig,
        "record": Record,
        "survival": SurvivalReport,
    }
    typer.echo(json.dumps(models[kind].model_json_schema(), indent=1))


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
    """Search settings on one half of the examples; write a grid of the best for the other half."""
    import yaml

    from .plan import make_plan
    from .store import read_records, replace_file
    from .sweep import RULE, load_sweep, select
    from .table import build_table

    load_plugins(plugin)
    search = load_sweep(config)
    trials = search.trials()
    folder = out_dir or Path("runs") / search.name
    engine = _engine(executor, address, plugin, trials)
    outcome = run_plan(trials, folder, executor=engine)
    table(folder)
    entries, lines = select(build_table(read_records(folder)), make_plan(trials))
    for line in lines:
        out.print(line, markup=False, highlight=False, soft_wrap=True)
    content = yaml.safe_dump(search.chosen(entries).model_dump(mode="json"), sort_keys=False)
    comment = "".join(f"# {line}\n" for line in (f"Chosen by: {RULE}.", *lines))
    replace_file(folder / "chosen.yaml", comment + content)
    err.print(f"written: {folder / 'chosen.yaml'}", markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(FAILED_CELLS if outcome.failed else 0)


@app.command()
def methods(plugin: PluginOption = None) -> None:
    """List unlearning methods: where each comes from, its parameters and defaults."""
    from unlearners import get_unlearner, list_unlearners

    load_plugins(plugin)
    _list_registered("Method", list_unlearners(), get_unlearner)


@app.command()
def quantizers(plugin: PluginOption = None) -> None:
    """List quantizers: where each comes from, its parameters and defaults."""
    from quantizers import get_quantizer, list_quantizers

    load_plugins(plugin)
    _list_registered("Quantizer", list_quantizers(), get_quantizer)


@app.command()
def corpora() -> None:
    """List corpora: where each is read from and its retrain AUC."""
    from rich.table import Table

    from harness_tasks.corpora import NAMES, load_corpus

    rows = Table("Corpus", "Source", "Location", "Revision", "Retrain AUC")
    for name in NAMES:
        corpus = load_corpus(name)
        auc = corpus.retrain_auc
        rows.add_row(
            name, corpus.source, corpus.location, corpus.revision or "—", str(auc) if auc else "—"
        )
    out.print(rows)


def _engine(
    name: str, address: str | None, plugins: list[Path] | None, config: RunConfig
) -> Executor | None:
    """Who works, if not this process."""
    from .errors import InputError
    from .executors import ray_executor

    if name == "ray":
        return ray_executor(address, plugins or (), config)
    if address:
        raise InputError("--address is for --executor ray")
    return None


def run_plan(
    config: RunConfig,
    folder: Path,
    plan: list[PlannedTraining] | None = None,
    *,
    retry_failed: bool = False,
    executor: Executor | None = None,
) -> Outcome:
    """Run what a plan still lacks in a folder that no other process works on."""
    from .plan import make_plan
    from .progress import Progress
    from .runner import Runner
    from .store import RunFolder

    plan = make_plan(config) if plan is None else plan
    store = RunFolder(folder, config.name)
    with store.lock(), Progress(err) as progress:
        runner = Runner(config, store, progress, retry_failed=retry_failed, executor=executor)
        return runner.run(plan)


def _list_cells(plan: list[PlannedTraining], folder: Path) -> None:
    from datetime import timedelta

    from .estimate import estimate
    from .runner import to_do
    from .store import checkpoints, read_records, record_path

    cells = [cell.cell for planned in plan for cell in planned.cells]
    recorded = [cell for cell in cells if record_path(folder, cell).exists()]
    for cell in cells:
        state = "recorded" if cell in recorded else "to do"
        out.print(f"{state:9} {cell.stem}", markup=False, highlight=False, soft_wrap=True)
    trained = checkpoints(folder)
    left = estimate(to_do(plan, folder), trained, read_records(folder) if recorded else [])
    line = f"{len(cells)} cells, {len(recorded)} recorded"
    if left.seconds:
        line += f"; left: about {timedelta(seconds=round(left.seconds))} of one worker"
    if left.unknown:
        line += f"; {left.unknown} trainings and cells left with no time yet to go by"
    out.print(line, highlight=False)


def _list_registered(title: str, names: dict[str, str], build: Any) -> None:
    from rich.markup import escape
    from rich.table import Table

    from .errors import USER_ERRORS

    rows = Table(title, "From", "Parameters")
    for name, distribution in names.items():
        try:
            params = ", ".join(f"{k}={v}" for k, v in build(name).to_dict().items())
        except USER_ERRORS as error:  # a parameter without a default
            params = str(error)
        rows.add_row(name, distribution, escape(params) or "—")
    out.print(rows)


def _prepare_process() -> None:
    """Quiet the libraries, and refuse to work beside packages that shadow ours."""
    # our own progress bar tells what is going on; tqdm reads this when it is imported
    os.environ.setdefault("TQDM_DISABLE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    # bitsandbytes tells everybody about an optional kernel when peft imports it
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    from harness_tasks._names import foreign_owners

    if messages := foreign_owners():
        err.print(f"error: {messages[0]}", markup=False, highlight=False, soft_wrap=True)
        sys.exit(BAD_INPUT)


def _stop(number: int, _: object) -> None:
    raise Stopped(number)


def main() -> None:
    """Run the command line; a user's mistake is one line and exit code 2."""
    _prepare_process()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    try:
        app()
    except Stopped as stop:
        err.print("interrupted: start the same command again to go on", markup=False)
        sys.exit(128 + stop.args[0])
    except Exception as error:
        from .errors import PATH_ERRORS, USER_ERRORS, is_disk_full
        from .report.text import one_line

        if os.environ.get("LM_EVAL_MUSE_DEBUG"):
            raise
        if is_disk_full(error):
            message = "no space left on the device: free some and start the same command again"
        elif isinstance(error, USER_ERRORS):
            message = one_line(str(error))
        elif isinstance(error, OSError) and error.errno in PATH_ERRORS and error.filename:
            message = one_line(f"{error.filename}: {error.strerror}")
        else:
            raise
        err.print(f"error: {message}", markup=False, highlight=False, soft_wrap=True)
        sys.exit(BAD_INPUT)
