"""A full disk, memory that is exhausted, and what a killed process leaves."""

import errno
from pathlib import Path
from typing import Any

import pytest

from leaderboard.config import RunConfig
from leaderboard.errors import is_disk_full
from leaderboard.execution.runner import Outcome, Runner
from leaderboard.grid.plan import make_plan
from leaderboard.progress import Progress
from leaderboard.records.store import RunFolder, read_records


def run(content: dict[str, Any], folder: Path, progress: Progress) -> Outcome:
    config = RunConfig.model_validate(content)
    with (opened := RunFolder(folder, config.name)).lock():
        return Runner(config, opened, progress).run(make_plan(config))


@pytest.mark.parametrize("place", ["checkpoint", "samples", "record"])
def test_full_disk_ends_the_run_and_is_no_cells_fault(
    small_world: Any,
    tmp_path: Path,
    progress: Progress,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
) -> None:
    """No failed record is written; with space again, the same run completes."""
    full = OSError(errno.ENOSPC, "No space left on device")

    def refuse(*arguments: Any, **keywords: Any) -> None:
        raise RuntimeError("serialization error") from full

    where = {
        "checkpoint": "leaderboard.training.train.save_model",
        "samples": "leaderboard.records.store.replace_file",
        "record": "leaderboard.records.store.write_new",
    }[place]
    with monkeypatch.context() as patch:
        config = RunConfig.model_validate(small_world.config(precisions=["none"]))
        folder = RunFolder(tmp_path / "run", config.name)
        patch.setattr(where, refuse)
        with pytest.raises(RuntimeError) as caught, folder.lock():
            Runner(config, folder, progress).run(make_plan(config))
        assert is_disk_full(caught.value)
    done = len(list((tmp_path / "run" / "records").glob("*.json")))
    assert done == (2 if place == "checkpoint" else 0)
    again = run(small_world.config(precisions=["none"]), tmp_path / "run", progress)
    assert again == Outcome(done=3 - done, kept=done)


def test_out_of_memory_is_one_cells_fault(
    small_world: Any, tmp_path: Path, progress: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhaust(*arguments: Any, **keywords: Any) -> None:
        raise MemoryError("cannot allocate 3 GiB")

    monkeypatch.setattr("leaderboard.execution.checkpoint.unlearn", exhaust)
    outcome = run(small_world.config(precisions=["none"]), tmp_path / "run", progress)
    assert outcome == Outcome(done=2, failed=1)
    (failed,) = [r for r in read_records(tmp_path / "run") if r.status == "failed"]
    assert failed.reason == "MemoryError: cannot allocate 3 GiB"


def test_leftovers_of_a_killed_process_are_swept(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run", "small")
    half = [folder.path / place for place in ("records/.a.1.unfinished", "samples/.b.2.unfinished")]
    half += [folder.path / "checkpoints" / "stem" / ".model-x" / "weights"]
    for path in half:
        path.parent.mkdir(parents=True)
        path.touch()
    whole = folder.path / "records" / "c.json"
    whole.touch()
    with folder.lock():
        assert not any(path.exists() for path in half)
    assert whole.exists()
