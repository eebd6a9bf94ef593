"""Interruption by a signal: one line, and the exit code of a shell."""

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from leaderboard.config import RunConfig
from leaderboard.execution.runner import Outcome, Runner
from leaderboard.grid.plan import make_plan
from leaderboard.progress import Progress
from leaderboard.records.store import RunFolder, read_records


def run(content: dict[str, Any], folder: Path, progress: Progress) -> Outcome:
    config = RunConfig.model_validate(content)
    with (opened := RunFolder(folder, config.name)).lock():
        return Runner(config, opened, progress).run(make_plan(config))


@pytest.mark.parametrize(
    ("number", "code", "executor"),
    [(signal.SIGTERM, 143, "local"), (signal.SIGINT, 130, "local"), (signal.SIGINT, 130, "ray")],
)
def test_signal_ends_with_one_line(
    small_world: Any, tmp_path: Path, number: signal.Signals, code: int, executor: str
) -> None:
    if executor == "ray":
        pytest.importorskip("ray")
    config = small_world.write_config(tmp_path)
    folder = tmp_path / "run"
    command = [sys.executable, "-m", "leaderboard", "run", str(config), "--out", str(folder)]
    process = subprocess.Popen(
        [*command, "--executor", executor],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    works = {"local": "npo_gdr lora: training", "ray": "chains of cells on Ray"}
    for line in process.stderr:
        if works[executor] in line:
            break
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code
    assert errors.splitlines()[-1] == "interrupted: run the same command again to continue"
    assert "Traceback" not in errors
    if executor == "local":
        assert len(read_records(folder)) == 4
