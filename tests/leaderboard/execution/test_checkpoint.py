"""Checkpoints in a run folder: made, kept, found again."""

import io
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from leaderboard.config import RunConfig, parse
from leaderboard.execution.runner import Outcome, Runner
from leaderboard.grid.plan import make_plan
from leaderboard.progress import Progress
from leaderboard.records.store import RunFolder, checkpoints, read_records


def run(content: dict[str, Any], folder: Path) -> Outcome:
    config = parse(RunConfig, content, "grid")
    store = RunFolder(folder, config.name)
    quiet = Progress(Console(file=io.StringIO()))
    with store.lock():
        return Runner(config, store, quiet).run(make_plan(config))


@pytest.fixture(scope="module")
def finished(small_world: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    outcome = run(small_world.config(), folder)
    assert outcome == Outcome(done=6, failed=0, kept=0)
    return folder


def test_checkpoint_is_kept_as_a_model_folder(finished: Path) -> None:
    (checkpoint,) = (finished / "checkpoints").iterdir()
    model = checkpoint / "model"
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {
        path.name for path in model.iterdir()
    }
    assert len((checkpoint / "training" / "loss.jsonl").read_text().splitlines()) == 2
    assert (checkpoint / "training" / "adapter" / "adapter_model.safetensors").is_file()


def test_new_precision_uses_the_old_checkpoint(
    finished: Path, small_world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_training(*arguments: Any, **keywords: Any) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr("leaderboard.execution.checkpoint.unlearn", no_training)
    config = small_world.config(precisions=["none", "rtn-int8"])
    assert run(config, finished).done == 3


@pytest.mark.parametrize("keep", ["adapters", "none"])
def test_what_is_kept_gives_the_same_checkpoint_again(
    small_world: Any, tmp_path: Path, keep: str
) -> None:
    """An adapter is merged again, without training; from nothing it is trained again."""
    whole = tmp_path / "all"
    run(small_world.config(precisions=["none"]), whole)
    folder = tmp_path / keep
    run(small_world.config(precisions=["none"], keep=keep), folder)
    (checkpoint,) = (folder / "checkpoints").iterdir()
    assert not (checkpoint / "model").exists()
    assert (checkpoint / "adapter").is_dir() == (keep == "adapters")
    assert (checkpoint / "training" / "loss.jsonl").is_file()
    assert checkpoints(folder) == ({checkpoint.name} if keep == "adapters" else set())

    for place in (whole, folder):
        run(small_world.config(precisions=["none", "rtn-int8"]), place)
    one, other = (
        load_file(path / "checkpoints" / checkpoint.name / "model" / "model.safetensors")
        for path in (whole, folder)
    )
    assert all(torch.equal(weight, other[name]) for name, weight in one.items())
    by_cell = [
        {r.cell.stem: (r.metrics, r.samples) for r in read_records(path)}
        for path in (whole, folder)
    ]
    assert by_cell[0] == by_cell[1]
    trained = [
        r.provenance.seconds.training
        for r in read_records(folder)
        if r.cell.precision == "rtn-int8" and not r.cell.training.is_reference
    ]
    assert [seconds is None for seconds in trained] == [keep == "adapters"]
