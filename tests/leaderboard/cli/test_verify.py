"""The command `verify`: equal, or different and where; the run stays as it was."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from rich.console import Console
from typer.testing import CliRunner

from leaderboard.cli import app
from leaderboard.errors import InputError
from leaderboard.records import samples


@pytest.fixture(scope="module")
def made(small_world: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run of one method, full and LoRA, and its configuration."""
    root = tmp_path_factory.mktemp("verification")
    entries = [{"method": "npo_gdr", "finetuning": kind} for kind in ("full", "lora")]
    config = small_world.write_config(root, unlearn=entries, precisions=["none", "rtn-int4"])
    result = CliRunner().invoke(app, ["run", str(config), "--out", str(root / "run")])
    assert result.exit_code == 0, result.output
    return root / "run", config


@pytest.fixture
def run(made: tuple[Path, Path], tmp_path: Path) -> Path:
    """A copy to be damaged."""
    return Path(shutil.copytree(made[0], tmp_path / "run"))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> StringIO:
    """Stream of the messages to standard error."""
    stream = StringIO()
    for module in ("common", "verify"):
        monkeypatch.setattr(f"leaderboard.cli.{module}.err", Console(file=stream, width=500))
    return stream


@pytest.fixture
def verify(made: tuple[Path, Path]) -> Callable[..., Result]:
    """The command on one record, which leaves the run's folder as it is."""

    def call(record: Path, *options: str) -> Result:
        before = contents(record.parent.parent)
        arguments = ["verify", str(record), "--config", str(made[1]), *options]
        result = CliRunner().invoke(app, arguments)
        assert contents(record.parent.parent) == before
        return result

    return call


def record_of(run: Path, pattern: str) -> Path:
    (path,) = (run / "records").glob(f"*--{pattern}--seed0--*.json")
    return path


def edit(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("pattern", ["target--none--rtn-int4", "npo_gdr--lora--none"])
def test_equal_from_the_runs_checkpoint(
    run: Path, verify: Callable[..., Result], told: StringIO, pattern: str
) -> None:
    record = record_of(run, pattern)
    result = verify(record, "--training", "never")
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{record.name}: equal\n"
    assert "tolerance: none" in told.getvalue()


@pytest.mark.parametrize("finetuning", ["full", "lora"])
def test_missing_checkpoint_is_trained_again(
    run: Path, verify: Callable[..., Result], told: StringIO, finetuning: str
) -> None:
    """Trained anew, quantized and evaluated: every number and answer, bit by bit."""
    shutil.rmtree(run / "checkpoints")
    record = record_of(run, f"npo_gdr--{finetuning}--rtn-int4")
    refused = verify(record, "--training", "never")
    assert isinstance(refused.exception, InputError)
    assert "no longer holds the checkpoint" in str(refused.exception)
    result = verify(record)
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{record.name}: equal\n"
    assert "again, in a temporary folder" in told.getvalue()


def test_kept_adapter_is_merged_again(run: Path, verify: Callable[..., Result]) -> None:
    (checkpoint,) = (run / "checkpoints").glob("*--lora--*")
    (checkpoint / "training" / "adapter").rename(checkpoint / "adapter")
    shutil.rmtree(checkpoint / "model")
    record = record_of(run, "npo_gdr--lora--none")
    assert verify(record, "--training", "never").stdout == f"{record.name}: equal\n"


def test_changed_metric_is_named(run: Path, verify: Callable[..., Result]) -> None:
    """A hundredth of a point is different here; elsewhere it is within the standard error."""
    record = record_of(run, "target--none--none")

    def change(content: dict[str, Any]) -> None:
        content["metrics"]["knowmem"] = {"value": 12.25, "stderr": 0.5}

    found = json.loads(record.read_text())["metrics"]["knowmem"]["value"]
    edit(record, change)
    result = verify(record)
    assert result.exit_code == 1, result.output
    assert f"metrics.knowmem.value: 12.25 recorded, {found} found\n" in result.stdout
    assert "verbmem" not in result.stdout
    assert result.stdout.endswith(": different\n")
    edit(record, lambda content: content["metrics"]["knowmem"].update(value=found + 0.01))
    assert verify(record).exit_code == 1
    result = verify(record, "--other-machine")
    assert result.exit_code == 0, result.output
    assert result.stdout.endswith(": equal, within the tolerance\n")


def test_changed_answer_is_named(run: Path, verify: Callable[..., Result]) -> None:
    """One answer of the file, and the record's SHA-256 of it, so that the two fit."""
    record = record_of(run, "target--none--none")
    path = run / "samples" / f"{record.stem}.jsonl.gz"
    answers = samples.decode(samples.decompress(path.read_bytes()))
    place = next(i for i, answer in enumerate(answers) if answer.task == "utility")
    answers[place] = answers[place].model_copy(update={"response": "quite another"})
    lines = samples.encode(answers)
    path.write_bytes(samples.compress(lines))
    refused = verify(record)
    assert isinstance(refused.exception, InputError)
    assert "SHA-256 differs" in str(refused.exception)
    edit(record, lambda content: content.update(samples=samples.sha256(lines)))
    result = verify(record)
    assert result.exit_code == 1, result.output
    assert f"utility {answers[place].example}: response: 'quite another'" in result.stdout
    assert "samples: " in result.stdout


def test_other_versions_are_told_first(
    run: Path, verify: Callable[..., Result], told: StringIO
) -> None:
    record = record_of(run, "target--none--none")
    edit(record, lambda content: content["provenance"]["packages"].update(torch="1.0"))
    result = verify(record)
    assert result.exit_code == 0, result.output
    assert "warning: torch: 1.0 recorded, " in told.getvalue()
    assert "tolerance: the recorded standard error" in told.getvalue()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda cell: cell["training"]["settings"].update(max_steps=3),
            "training.settings.max_steps: 3 in the record, 2 in the configuration",
        ),
        (lambda cell: cell["training"].update(method="npo"), "has no cell small--npo--lora--none"),
        (lambda cell: cell.update(limit=5), "limit: 5 in the record, 6 in the configuration"),
    ],
)
def test_record_of_something_else(
    run: Path, verify: Callable[..., Result], change: Any, message: str
) -> None:
    record = record_of(run, "npo_gdr--lora--none")
    edit(record, lambda content: change(content["cell"]))
    refused = verify(record)
    assert isinstance(refused.exception, InputError)
    name = json.loads(record.read_text())["cell"]["training"]["corpus"]["name"]
    assert message.replace("small--", f"{name}--") in str(refused.exception)
    assert "\n" not in str(refused.exception)


def test_no_record_there(run: Path, verify: Callable[..., Result]) -> None:
    for place in (run / "records" / "none.json", run / "records"):
        refused = verify(place)
        assert isinstance(refused.exception, InputError)
        assert "cannot be read" in str(refused.exception)
