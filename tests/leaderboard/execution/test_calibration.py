"""A calibrated quantizer in a grid sees retain text alone, and the record says which."""

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
from rich.console import Console
from typer.testing import CliRunner

from harness_tasks.corpora import load_corpus
from leaderboard.cli import app
from leaderboard.config import RunConfig, parse
from leaderboard.execution.runner import Runner
from leaderboard.grid.plan import make_plan
from leaderboard.progress import Progress
from leaderboard.records.store import RunFolder, read_records
from quantizers import CalibratedQuantizer, register_quantizer
from quantizers.registry import registry

SEEN: list[Any] = []


@dataclass(frozen=True, kw_only=True)
class Remembers(CalibratedQuantizer):
    """Leaves the model alone and keeps the windows it was given."""

    bits: ClassVar[float | None] = None

    def quantize(self, model: Any, windows: Any) -> Any:
        SEEN.append(windows)
        return model


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    """Known by name here alone: the contract test runs over every registered quantizer."""
    register_quantizer("test-calibrated")(Remembers)
    yield
    registry._objs.pop("test-calibrated")


def test_record_says_what_calibration_saw(small_world: Any, tmp_path: Path) -> None:
    precision = {"quantizer": "test-calibrated", "params": {"samples": 4, "window": 32}}
    grid = small_world.config(precisions=[precision], unlearn=[])
    config = parse(RunConfig, grid, "grid")
    folder = RunFolder(tmp_path / "run", config.name)
    Runner(config, folder, Progress(Console(file=io.StringIO()))).run(make_plan(config)[:1])
    (record,) = read_records(folder.path)
    assert record.status == "done", record.reason
    assert record.calibration is not None
    retain = load_corpus(str(small_world.corpus)).texts("raw/retain1")
    assert record.calibration["texts"] + record.calibration["dropped"] >= len(retain)
    assert record.calibration["samples"] == 4
    assert len(SEEN) == 1


def test_quantize_needs_a_corpus_for_it(small_world: Any, tmp_path: Path) -> None:
    result = CliRunner().invoke(
        app,
        [
            *("quantize", "--quantizer", "test-calibrated"),
            *("--model", str(small_world.target), "--out", str(tmp_path / "out")),
        ],
    )
    assert "name a corpus with --corpus" in str(result.exception)


@pytest.mark.parametrize("name", ["gptq-int4", "awq-int4"])
def test_through_the_library(small_world: Any, tmp_path: Path, name: str) -> None:
    pytest.importorskip("llmcompressor")
    out = tmp_path / "out"
    result = CliRunner().invoke(
        app,
        [
            *("quantize", "--quantizer", name, "--param", "samples=4", "--param", "window=32"),
            *("--model", str(small_world.target), "--corpus", str(small_world.corpus)),
            *("--out", str(out)),
        ],
    )
    assert result.exit_code == 0, result.exception
    assert json.loads((out / "quantizer.json").read_text())["calibration"]["samples"] == 4
