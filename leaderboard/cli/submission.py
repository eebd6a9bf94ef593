"""Commands for submissions to the leaderboard: submit, validate, collect."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .common import (
    FAILED_CELLS,
    PluginOption,
    RetryOption,
    err,
    load_plugins,
    run_plan,
    say,
    show,
)

PROBLEMS = 1

app = typer.Typer()


@app.command()
def submit(
    config: Annotated[Path, typer.Option("--config", "-c", help="Configuration of the grid.")],
    plugin: PluginOption = None,
    method: Annotated[
        list[str] | None,
        typer.Option(help="Method to submit (repeatable); default: all that are not built in."),
    ] = None,
    search: Annotated[
        Path | None, typer.Option(help="Sweep that chose the grid's settings.")
    ] = None,
    run_dir: Annotated[
        Path | None, typer.Option("--run", help="Folder of the run; default: runs/<name>.")
    ] = None,
    out_dir: Annotated[
        Path, typer.Option("--out", "-o", help="Parent folder of the submission, <method>/.")
    ] = Path("submissions"),
    retry_failed: RetryOption = False,
) -> None:
    """Check a method, run the remaining cells of its grid, and pack the results."""
    from ..config import load_config
    from ..grid.sweep import load_sweep
    from ..submissions.packing import failures, pack, refuse_existing
    from ..submissions.submission import submissions

    load_plugins(plugin)
    settings = load_config(config)
    sweep = load_sweep(search) if search else None
    submitted = submissions(settings, method or (), plugin or (), sweep)
    for submission in submitted:
        refuse_existing(out_dir / submission.method)
        say(f"{submission.method} keeps the contract of methods")
    run = run_dir or Path("runs") / settings.name
    # two methods share the target and retrain models
    plan = {id(planned): planned for submission in submitted for planned in submission.plan}
    run_plan(settings, run, list(plan.values()), retry_failed=retry_failed)
    if failed := [line for submission in submitted for line in failures(submission, run)]:
        for line in failed:
            say(line)
        say("nothing was packed; fix the cause and rerun with --retry-failed")
        raise typer.Exit(FAILED_CELLS)
    for submission in submitted:
        folder = out_dir / submission.method
        say(f"packing {folder}")
        for warning in pack(submission, run, folder):
            say(str(warning))
        say(f"written: {folder}")


@app.command()
def validate(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Submissions.")],
    board: Annotated[
        Path | None,
        typer.Option(help="Folder of a leaderboard; the submissions must have all its precisions."),
    ] = None,
) -> None:
    """Check submissions without running their code; exit code 1 if one has problems."""
    from rich.progress import track

    from ..reading.untrusted_files import to_ascii_line
    from ..records.store import read_records
    from ..submissions.board import board_precisions
    from ..submissions.validation import validate

    precisions = board_precisions(read_records(board)) if board else None
    has_problems = False
    for folder in folders:
        verdict = validate(
            folder,
            lambda names: track(
                names, "records", console=err, transient=True, disable=not err.is_terminal
            ),
            precisions,
        )
        for finding in verdict.findings:
            show(str(finding))
        count = len(verdict.problems)
        has_problems = has_problems or count > 0
        state = f"{count} problem{'s' if count > 1 else ''}" if count else "valid"
        summary = f"{to_ascii_line(verdict.method) or 'no method'}, {len(verdict.records)} records"
        show(f"{folder}: {summary}: {state}")
    raise typer.Exit(PROBLEMS if has_problems else 0)


@app.command()
def collect(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Submissions.")],
    out_dir: Annotated[Path, typer.Option("--out", "-o", help="Folder that receives the records.")],
) -> None:
    """Collect the records of valid submissions in one folder, for `table`."""
    from ..submissions.collection import collect

    for line in collect(folders, out_dir):
        say(line)
