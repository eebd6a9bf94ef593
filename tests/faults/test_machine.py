"""Faults of the machine during a run: no space, no writing, no memory, another time."""

import os
import subprocess
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from test_kills import Aim, contents, killed, names, results, undisturbed

from leaderboard.records.store import read_records

HUNGRY = '''
import resource
from dataclasses import dataclass
from pathlib import Path

import torch

from unlearners import register_unlearner
from unlearners.methods.gradient_ascent import GradientAscent

used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**30, used + 2**30))


@register_unlearner("hungry")
@dataclass(frozen=True, kw_only=True)
class Hungry(GradientAscent):
    """Asks for 2 GiB in a process that may have one more."""

    def loss(self, model, batch, reference):
        return super().loss(model, batch, reference) | {"more": torch.zeros(2**29).sum()}
'''


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one mebibyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        mount("-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder))
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no tmpfs can be mounted here (root may): {error}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_full_disk(grid: Any, faults: Any, disk: Path) -> None:
    """The run ends with one line; with space, the same command goes on."""
    command = ("run", grid.config("full"), "--out", disk / "run")
    code, errors = grid.start(*command).finish()
    assert code == 2
    assert errors.splitlines()[-1].startswith("error: no space left on the device: free some")
    assert all(record.status == "done" for record in read_records(disk / "run"))
    mount("-o", "remount,size=64m", str(disk))
    code, errors = grid.start(*command).finish()
    assert code == 0, errors
    assert [record.status for record in read_records(disk / "run")] == ["done"] * 10
    faults.add("disk of 1 MiB is full", 1, "one line, exit code 2; with space, resumed")


def test_read_only_folder(grid: Any, faults: Any, disk: Path) -> None:
    command = ("run", grid.config("read-only", unlearn=[]), "--out", disk / "run")
    mount("-o", "remount,size=64m", str(disk))
    assert grid.start(*command).finish()[0] == 0
    before = {path: path.read_bytes() for path in disk.rglob("*") if path.is_file()}
    mount("-o", "remount,ro", str(disk))
    for arguments in (command, ("table", disk / "run"), (*command[:3], disk / "new")):
        code, errors = grid.start(*arguments).finish()
        assert code == 2
        last = errors.splitlines()[-1]
        assert last.startswith("error: ")
        assert last.endswith(": Read-only file system")
        assert "unfinished" not in last
        assert "Traceback" not in errors
    assert before == {path: path.read_bytes() for path in disk.rglob("*") if path.is_file()}
    faults.add("disk becomes read-only", 1, "one line, exit code 2; the folder as it was")


def test_out_of_memory(grid: Any, faults: Any, tmp_path: Path) -> None:
    """The limit holds for the process; only the cells of one method ask for more."""
    plugin = tmp_path / "hungry.py"
    plugin.write_text(HUNGRY)
    methods = [{"method": name, "finetuning": "full"} for name in ("hungry", "ga")]
    command = ("run", grid.config("hungry", unlearn=methods), "--plugin", plugin)
    code, errors = grid.start(*command, "--out", tmp_path / "run").finish()
    assert code == 1, errors
    records = read_records(tmp_path / "run")
    failed = [record for record in records if record.status != "done"]
    assert len(records) == 8
    assert [record.cell.training.method for record in failed] == ["hungry"] * 2
    for record in failed:
        assert record.reason is not None and "out of memory: lower batch_size" in record.reason
    faults.add("out of memory in one method", 1, "its cells fail with the reason; the rest is done")


@pytest.mark.parametrize("years", [1, -1])
def test_clock_set_back_and_forth(grid: Any, faults: Any, tmp_path: Path, years: int) -> None:
    """Killed in a training, whose checkpoints and records then are of next year, or of last.

    The clock of the first process is that year's, and so are the times of all files it leaves.
    """
    ahead = years * timedelta(days=365)
    config = grid.config("clock")
    undisturbed(grid.start("run", config, "--out", tmp_path / "whole"))
    command = ("run", config, "--out", tmp_path / "run")
    aim = Aim("saving a Trainer checkpoint", 2, 0.0)
    assert killed(grid.start(*command, ahead=ahead), aim)
    before = contents(tmp_path / "run", "records/*.json")
    assert len(before) == 4  # of target and retrain
    assert list((tmp_path / "run").glob("checkpoints/*/training/checkpoint-2"))
    for path in [grid.cache, *grid.cache.rglob("*"), *(tmp_path / "run").rglob("*")]:
        moment = path.stat().st_mtime + ahead.total_seconds()
        os.utime(path, (moment, moment))
    undisturbed(grid.start(*command))
    assert before.items() <= contents(tmp_path / "run", "records/*.json").items()
    assert results(tmp_path / "run") == results(tmp_path / "whole")
    assert names(tmp_path / "run") == names(tmp_path / "whole")
    now = datetime.now(timezone.utc)
    moments = [
        datetime.fromisoformat(record.provenance.created)
        for record in read_records(tmp_path / "run")
    ]
    assert sum(abs(moment - now) > timedelta(days=300) for moment in moments) == len(before)
    code, errors = grid.start("table", "--check", tmp_path / "run").finish()
    assert code == 0, errors
    faults.add(
        f"clock set {'back' if years > 0 else 'forth'} by a year", 1, "resumed, same results"
    )
