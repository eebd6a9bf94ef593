"""The demo grid by one worker with one thread, and by two on a local Ray cluster.

Two plain processes, each with half of the grid, show what two workers can gain on this machine.
The demo's models are built first, outside the measured time. MUSE_BENCH_SEEDS asks for more seeds
than the demo's one.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import yaml

import leaderboard
from leaderboard.records.store import read_records

DEMO = Path(leaderboard.__file__).parent / "configs" / "demo.yaml"
SEEDS = int(os.environ.get("MUSE_BENCH_SEEDS", "1"))
LIBRARIES = "import torch, transformers, datasets, peft, lm_eval, rouge_score.rouge_scorer"
# halves of about the same work, by the names of their cells
HALVES = (("*--npo_gdr--*", "*--target--*"), ("*--ga_gdr--*", "*--retrain--*"))


def together(*commands: Sequence[str]) -> float:
    """Wall time of Python commands side by side, one thread each."""
    start = perf_counter()
    running = [
        subprocess.Popen(
            [sys.executable, *command],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        for command in commands
    ]
    assert [process.wait() for process in running] == [0] * len(commands)
    return perf_counter() - start


def grid(folder: Path, *options: str) -> list[str]:
    config = folder.with_suffix(".yaml")
    content = yaml.safe_load(DEMO.read_text(encoding="utf-8")) | {"seeds": [*range(SEEDS)]}
    config.write_text(yaml.safe_dump(content), encoding="utf-8")
    return ["-m", "leaderboard", "run", str(config), "--out", str(folder), *options]


def work(folder: Path) -> float:
    """Seconds of training, quantizing and evaluating in a run's records."""
    trainings: dict[str, float] = {}
    cells = 0.0
    for record in read_records(folder):
        seconds = record.provenance.seconds
        if seconds:
            cells += seconds.quantizing + seconds.evaluating
            trainings[record.cell.training.stem] = seconds.training or 0  # the same in each cell
    return sum(trainings.values()) + cells


def test_demo_grid(benchmark: Any, ratios: Any, tmp_path: Path) -> None:
    together(["-m", "leaderboard", "demo", "--models-only"])
    libraries = together(["-c", LIBRARIES])
    alone = benchmark.pedantic(together, args=(grid(tmp_path / "alone"),), rounds=1)
    ray = together(grid(tmp_path / "ray", "--executor", "ray"))
    halves = together(
        *(
            grid(tmp_path / str(i), *(part for name in names for part in ("--only", name)))
            for i, names in enumerate(HALVES)
        )
    )
    worked = work(tmp_path / "alone")
    name = f"demo grid, {SEEDS} seed{'s' if SEEDS > 1 else ''}"
    ratios.add(
        f"{name}: wall time beyond work and imports / work",
        (alone - libraries) / worked - 1,
        "0.05",
    )
    ratios.add(f"{name}: wall time beyond work / work", alone / worked - 1)
    ratios.add(f"{name}: one worker / two plain processes, seconds", alone / halves)
    ratios.add(f"{name}: one worker / two workers on Ray, seconds", alone / ray, "1.6")
