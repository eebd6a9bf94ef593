"""Cells of a training: failures, survival."""

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from leaderboard.config import RunConfig, parse
from leaderboard.execution.runner import Outcome, Runner
from leaderboard.grid.plan import make_plan
from leaderboard.progress import Progress
from leaderboard.records.store import RunFolder, read_records


def run(content: dict[str, Any], folder: Path) -> Outcome:
    config = parse(RunConfig, content, "grid")
    store = RunFolder(folder, config.name)
    quiet = Progress(Console(file=io.StringIO()))
    with store.lock():
        return Runner(config, store, quiet).run(make_plan(config))


def test_what_fails_is_recorded_and_the_rest_goes_on(
    small_world: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from unlearners.errors import DivergedError

    def diverge(*arguments: Any, **keywords: Any) -> None:
        raise DivergedError(step=7, loss=float("nan"))

    monkeypatch.setattr("leaderboard.execution.checkpoint.unlearn", diverge)
    outcome = run(small_world.config(precisions=["none"]), tmp_path / "run")
    assert outcome == Outcome(done=2, failed=1, kept=0)
    (failed,) = [r for r in read_records(tmp_path / "run") if r.status != "done"]
    assert failed.status == "diverged"
    assert failed.reason is not None
    assert "7" in failed.reason
    assert failed.metrics == {}


@pytest.mark.parametrize("method", ["__init__", "measure"])
def test_scores_do_not_depend_on_survival(
    small_world: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """Too little memory for the comparison with the target: the cell has its scores."""

    def fail(*arguments: Any) -> None:
        raise RuntimeError("CUDA out of memory.\nTried to allocate 2 GiB")

    monkeypatch.setattr(f"leaderboard.evaluation.survival.SurvivalMeter.{method}", fail)
    content = small_world.config(precisions=["rtn-int4"])
    assert run(content, tmp_path / "run").failed == 0
    (record,) = (
        record for record in read_records(tmp_path / "run") if not record.cell.training.is_reference
    )
    assert record.survival is None
    assert record.metrics["verbmem"].value >= 0
