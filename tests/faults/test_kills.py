"""SIGKILL at random moments of a grid: started again, it ends as if nothing had happened.

A *chain* is one run folder: its command is killed and started again, up to ten times, and in the
end left alone. Half of a run's time goes into training, and a record is written in milliseconds:
so the stages take turns, and within one, the occurrence and the moment are drawn at random.
``FAULTS_KILLS`` (50) says how many kills, ``FAULTS_SEED`` (0) which.
"""

import itertools
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from announced import Command

from leaderboard.records.store import read_record, read_records

KILLS = int(os.environ.get("FAULTS_KILLS", "50"))
SEED = int(os.environ.get("FAULTS_SEED", "0"))
KILLS_PER_CHAIN = 10
KEEP = ("all", "adapters")
KEPT = (
    "samples/*",
    "survival/*",
    "retrain/*",
    "checkpoints/**/*.safetensors",
    "references/*.npy",
)
"""Files that a resumed run has byte by byte as an undisturbed one."""


@dataclass(frozen=True)
class Aim:
    """A moment: so many seconds into a stage, when it comes up for the nth time."""

    stage: str
    nth: int
    delay: float


def stages(lines: Iterable[str]) -> Iterator[tuple[float, str]]:
    """Moments and names in what ``announced.py`` prints."""
    for line in lines:
        if line.startswith("@"):
            moment, _, stage = line[1:].rstrip("\n").partition(" ")
            yield float(moment), stage


def undisturbed(command: Command) -> dict[str, list[float]]:
    """Run to the end: the seconds that each stage took, every time it came up."""
    code, errors = command.finish()
    assert code == 0, errors
    seconds: dict[str, list[float]] = {}
    for (start, stage), (end, _) in itertools.pairwise(stages(errors.splitlines())):
        seconds.setdefault(stage, []).append(end - start)
    return seconds


def killed(command: Command, aim: Aim) -> str | None:
    """Kill at a moment: the stage that was under way; None if the run had ended before it."""
    seen, count = ["starting"], 0
    for _, stage in stages(command.errors):
        seen.append(stage)
        count += stage == aim.stage
        if count == aim.nth:
            time.sleep(aim.delay)
            command.kill()
            break
    code, rest = command.finish()
    assert code in (0, -signal.SIGKILL), rest
    seen += [stage for _, stage in stages(rest.splitlines())]
    return seen[-1] if code else None


def results(folder: Path) -> dict[str, Any]:
    """All that records say but time and place."""
    apart = {"provenance", "sha256"}
    return {r.cell.stem: r.model_dump(exclude=apart) for r in read_records(folder)}


def names(*folders: Path) -> set[Path]:
    """All paths but lock files, which are empty and may stay."""
    return {
        path.relative_to(root)
        for root in folders
        for path in root.rglob("*")
        if path.parent.name != "locks" and path.name != ".lock"
    }


def contents(folder: Path, pattern: str) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in folder.glob(pattern)}


def test_killed_at_random_moments(grid: Any, faults: Any) -> None:
    rng = random.Random(SEED)
    whole, configs = {}, {}
    for keep in KEEP:
        configs[keep] = grid.config(keep, keep=keep)
        whole[keep] = grid.root / f"whole-{keep}"
        seconds = undisturbed(grid.start("run", configs[keep], "--out", whole[keep]))
    shared = names(grid.cache, grid.temporary)
    expected = results(whole["all"])
    assert len(expected) == 10
    assert results(whole["adapters"]) == expected

    turns = [stage for _ in range(KILLS) for stage in seconds][:KILLS]
    rng.shuffle(turns)
    hit: Counter[str] = Counter()
    chains = 0
    while turns:
        keep = KEEP[chains % len(KEEP)]
        folder = grid.root / f"chain-{chains}"
        chains += 1
        command = ("run", configs[keep], "--out", folder)
        records: dict[Path, bytes] = {}
        for _ in range(min(KILLS_PER_CHAIN, len(turns))):
            times = seconds[turns[-1]]
            nth = rng.randint(1, min(2, len(times)))
            delay = rng.uniform(0, rng.choice(times))
            stage = killed(grid.start(*command), Aim(turns[-1], nth, delay))
            if stage is None:
                break
            turns.pop()
            hit[stage] += 1
            now = contents(folder, "records/[!.]*")
            assert records.items() <= now.items()  # none lost, none written again
            records = now
            for path in records:
                read_record(folder / path)  # none half-written
        undisturbed(grid.start(*command))
        assert records.items() <= contents(folder, "records/*").items()
        assert results(folder) == expected
        for pattern in KEPT:
            assert contents(folder, pattern) == contents(whole[keep], pattern)
        assert names(folder) == names(whole[keep])  # no orphan: nothing that is not made anyhow
        assert names(grid.cache, grid.temporary) == shared
        code, errors = grid.start("table", "--check", folder).finish()
        assert code == 0, errors
    for stage, times in hit.most_common():
        faults.add(f"SIGKILL: {stage}", times, "resumed")
    outcome = f"{chains} runs equal the undisturbed one; records lost, half-written, orphans: 0"
    faults.add("SIGKILL", hit.total(), outcome)
