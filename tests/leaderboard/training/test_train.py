"""Saving is tried before training, and trained weights are kept where it fails after all."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import PreTrainedTokenizerFast, Trainer
from typer.testing import CliRunner, Result

from leaderboard.cli import app
from leaderboard.errors import InputError
from leaderboard.records.store import read_records
from leaderboard.training import train
from unlearners import UnlearnerError
from unlearners.engine.kept_weights import KEPT


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def unlearn(small_world: Any, out: Path) -> Result:
    return call(
        *("unlearn", "--method", "npo_gdr", "--corpus", small_world.corpus),
        *("--model", small_world.target, "--out", out),
        *("--training", "window=64", "--training", "max_steps=2"),
    )


def untrained(*arguments: Any, **keywords: Any) -> None:
    raise AssertionError("nothing is to be trained")


@pytest.mark.parametrize("command", ["unlearn", "quantize"])
def test_saving_is_tried_first(
    small_world: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    def refuse(*arguments: Any, **keywords: Any) -> None:
        raise TypeError("merges cannot be written\n\nmore")

    monkeypatch.setattr(PreTrainedTokenizerFast, "save_pretrained", refuse)
    monkeypatch.setattr(Trainer, "train", untrained)
    out = tmp_path / "out"
    if command == "unlearn":
        result = unlearn(small_world, out)
    else:
        result = call(
            command, "--quantizer", "rtn-int4", "--model", small_world.target, "--out", out
        )
    assert isinstance(result.exception, InputError)
    expected = f"the model cannot be saved to {out}: merges cannot be written"
    assert str(result.exception) == expected
    assert list(tmp_path.iterdir()) == []


def test_folder_that_cannot_be_written(
    small_world: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Trainer, "train", untrained)
    (tmp_path / "file").write_text("")
    result = unlearn(small_world, tmp_path / "file" / "out")
    assert result.exit_code == 2 or isinstance(result.exception, InputError)


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Saving fails after the training, not before it."""

    def refuse(*arguments: Any, **keywords: Any) -> None:
        raise RuntimeError("some tensors share memory")

    monkeypatch.setattr(train, "save_model", refuse)
    return monkeypatch


def test_weights_are_kept(small_world: Any, tmp_path: Path, failing: pytest.MonkeyPatch) -> None:
    out, kept = tmp_path / "out", tmp_path / "out.training" / KEPT
    error = unlearn(small_world, out).exception
    assert isinstance(error, UnlearnerError)
    assert f"could not be saved to {out}: some tensors share memory" in str(error)
    assert str(kept) in str(error)

    failing.undo()
    failing.setattr(Trainer, "train", untrained)
    assert unlearn(small_world, out).exit_code == 0
    failing.undo()
    assert unlearn(small_world, tmp_path / "other").exit_code == 0
    found, expected = (
        load_file(folder / "model.safetensors") for folder in (out, tmp_path / "other")
    )
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=0, atol=0)
    assert not kept.exists() and not (out / "training" / KEPT).exists()


def test_grid_goes_on(small_world: Any, tmp_path: Path, failing: pytest.MonkeyPatch) -> None:
    config = small_world.write_config(tmp_path, precisions=["none"])
    run = tmp_path / "run"
    assert call("run", config, "--out", run).exit_code == 1
    reasons = {r.cell.training.method: r.reason or "" for r in read_records(run)}
    assert "Its weights are kept" in reasons["npo_gdr"]
    assert reasons["target"] == reasons["retrain"] == ""

    failing.undo()
    failing.setattr(Trainer, "train", untrained)
    assert call("run", config, "--out", run, "--retry-failed").exit_code == 0
    assert {record.status for record in read_records(run)} == {"done"}
