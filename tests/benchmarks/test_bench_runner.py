"""The demo grid by one worker with one thread, and by two on a local Ray cluster.

The demo's models are built first, outside the measured time.
"""

import os
import subprocess
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

import leaderboard
from leaderboard.store import read_records

DEMO = Path(leaderboard.__file__).parent / "configs" / "demo.yaml"


def command(*arguments: str) -> float:
    """Wall time of one command with one thread a worker."""
    start = perf_counter()
    subprocess.run(
        [sys.executable, "-m", "leaderboard", *arguments],
        check=True,
        capture_output=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    return perf_counter() - start


def test_demo_grid(benchmark: Any, ratios: Any, tmp_path: Path) -> None:
    command("demo", "--models-only")

    def run(name: str, *options: str) -> float:
        return command("run", str(DEMO), "--out", str(tmp_path / name), *options)

    alone = benchmark.pedantic(run, args=("alone",), rounds=1)
    both = run("both", "--executor", "ray")
    trainings: dict[str, float] = {}
    cells = 0.0
    for record in read_records(tmp_path / "alone"):
        seconds = record.provenance.seconds
        if seconds:
            cells += seconds.quantizing + seconds.evaluating
            trainings[record.cell.training.stem] = seconds.training or 0  # the same in each cell
    work = sum(trainings.values()) + cells
    ratios.add("demo grid: start-up, planning, records, tables / work", alone / work - 1, "0.05")
    ratios.add("demo grid: one worker / two workers on Ray, seconds", alone / both, "1.6")
