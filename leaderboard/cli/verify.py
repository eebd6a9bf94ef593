"""Command that evaluates a record's cell again: verify."""

from __future__ import annotations

import os
from itertools import islice
from pathlib import Path
from typing import Annotated, Literal

import typer

from ..reading.escaping import visible
from .common import (
    PluginOption,
    err,
    load_plugins,
    say,
    show,
)

DIFFERENT = 1
SHOWN_ANSWERS = 5

app = typer.Typer()


@app.command()
def verify(
    record_file: Annotated[Path, typer.Argument(metavar="RECORD", help="A record's JSON file.")],
    config: Annotated[
        Path, typer.Option("--config", "-c", help="The grid of the record, as YAML.")
    ],
    plugin: PluginOption = None,
    training: Annotated[
        Literal["missing", "never", "always"],
        typer.Option(
            help="Train the checkpoint again if the run's folder lacks it, never, or always."
        ),
    ] = "missing",
    other_machine: Annotated[
        bool,
        typer.Option(
            "--other-machine",
            help="The record was made on another processor, which it does not name: let a metric "
            "differ by its standard error, as with other versions.",
        ),
    ] = False,
) -> None:
    """Evaluate a record's cell again; exit code 0 if the result is equal, 1 if not.

    With the same machine, versions and threads every number and answer must be equal. Otherwise a
    metric may differ by its recorded standard error. Nothing is written to the run.
    """
    import torch

    from ..config import load_config
    from ..execution.verification import (
        answer_differences,
        differences,
        environment_differences,
        evaluate_again,
        find_cell,
    )
    from ..grid.plan import make_plan
    from ..progress import Progress
    from ..records.provenance import provenance
    from ..records.store import read_record, read_samples

    load_plugins(plugin)
    settings = load_config(config)
    record = read_record(record_file)
    run = record_file.resolve().parent.parent
    answers = read_samples(run, record)
    planned, cell = find_cell(make_plan(settings), record)
    if 1 <= record.provenance.threads <= (os.cpu_count() or 1):
        torch.set_num_threads(record.provenance.threads)
    device = settings.evaluation.device or ("cuda" if torch.cuda.is_available() else "cpu")
    apart = environment_differences(record.provenance, provenance(device))
    for line in apart:
        say(visible(f"warning: {line}"))
    exact = not apart and not other_machine
    say(
        "tolerance: none, every number and answer must be the same"
        if exact
        else "tolerance: the recorded standard error of each metric"
    )
    with Progress(err) as progress:
        result = evaluate_again(settings, planned, cell, record, run, training, progress)
    found = differences(record, result.record, exact=exact)
    for difference in found:
        show(visible(str(difference)))
    if answers:
        changed = answer_differences(answers, result.answers)
        for line in islice(changed, SHOWN_ANSWERS):
            show(visible(line))
        if more := sum(1 for _ in changed):
            show(f"and {more} more answers")
    if any(not difference.allowed for difference in found):
        verdict = "different"
    else:
        verdict = "equal, within the tolerance" if found else "equal"
    show(visible(f"{record_file.name}: {verdict}"))
    raise typer.Exit(DIFFERENT if verdict == "different" else 0)
