"""The example corpus of `corpus build`, through the command line."""

from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from leaderboard.cli import app
from leaderboard.cli.corpus import EXAMPLE


def invoke(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def build(out: Path, tokenizer: Path, *more: object) -> Any:
    names = {"forget": "forget", "retain": "retain.jsonl", "holdout": "holdout.json"}
    sides = [part for side, name in names.items() for part in (f"--{side}", EXAMPLE / name)]
    arguments = ["--qa", EXAMPLE / "questions.jsonl", "--tokenizer", tokenizer, "--out", out]
    return invoke("corpus", "build", *sides, *arguments, *more)
