"""Entry point of ``lm-eval-muse``.

Commands import what they need when they run, so that ``--help`` is quick.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from typing import Annotated

import typer

from ..interrupts import Stopped
from . import corpus, grid, listing, single_model, submission, table, verify
from .common import BAD_INPUT, say

app = typer.Typer(
    name="lm-eval-muse",
    help="Does unlearned text stay unlearned after quantization?",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for group in (single_model, table, submission, verify, grid, listing):
    app.add_typer(group.app)
app.add_typer(corpus.app, name="corpus")


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option(help="Show a traceback with every error.")] = False,
) -> None:
    os.environ["LM_EVAL_MUSE_DEBUG"] = "1" if debug else ""


def _prepare_process() -> None:
    """Silence the libraries, and refuse to run with packages that shadow ours."""
    # tqdm reads this when it is imported; our own progress bar is shown
    os.environ.setdefault("TQDM_DISABLE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    # bitsandbytes warns of an optional kernel when peft imports it
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    from harness_tasks.import_conflicts import foreign_owners

    if messages := foreign_owners():
        say(f"error: {messages[0]}")
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
        say("interrupted: run the same command again to continue")
        sys.exit(128 + stop.args[0])
    except Exception as error:
        from ..errors import PATH_ERRORS, USER_ERRORS, is_disk_full
        from ..reading.escaping import one_line

        if os.environ.get("LM_EVAL_MUSE_DEBUG"):
            raise
        if is_disk_full(error):
            message = "no space left on the device: free some and run the same command again"
        elif isinstance(error, USER_ERRORS):
            message = one_line(str(error))
        elif isinstance(error, OSError) and error.errno in PATH_ERRORS and error.filename:
            message = one_line(f"{error.filename}: {error.strerror}")
        else:
            raise
        say(f"error: {message}")
        sys.exit(BAD_INPUT)
