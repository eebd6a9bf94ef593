import io
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from harness_tasks import scoring
from leaderboard.config import RunConfig, parse
from leaderboard.execution.runner import Outcome, Runner
from leaderboard.grid.plan import make_plan
from leaderboard.progress import Progress
from leaderboard.records.schema import Record
from leaderboard.records.store import RunFolder, read_records


def run(content: dict[str, Any], folder: Path) -> Outcome:
    config = parse(RunConfig, content, "grid")
    store = RunFolder(folder, config.name)
    quiet = Progress(Console(file=io.StringIO()))
    with store.lock():
        return Runner(config, store, quiet).run(make_plan(config))


def what_matters(record: Record) -> tuple[str, str, dict[str, Any]]:
    return record.cell.stem, record.status, record.metrics


@pytest.fixture(scope="module")
def finished(small_world: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    outcome = run(small_world.config(), folder)
    assert outcome == Outcome(done=6, failed=0, kept=0)
    return folder


def test_every_cell_is_recorded(finished: Path, small_world: Any) -> None:
    records = read_records(finished)
    assert len(records) == 6
    for record in records:
        assert record.status == "done"
        assert set(record.metrics) == {"verbmem", "knowmem", "privleak", "utility"}
        assert record.provenance.packages["lm_eval"]
        assert record.provenance.tasks["muse_privleak"]
        assert record.provenance.seconds is not None
        if record.cell.training.is_reference:
            assert record.survival is None
        else:
            assert record.survival is not None
            assert record.survival.update.norm > 0
            assert (record.survival.rounding is None) == (record.cell.quantizer == "none")
            assert record.provenance.training.effective_batch_size == 4
            assert record.provenance.training.steps == 2
        assert record.bits == (4 if record.is_quantized else None)
        assert record.dtype == "float32"
        assert record.cell.training.dtype == "float32"
        assert record.cell.retrain_auc.source == "measured"
        assert [len(part.scores) for part in record.examples.values()] == [6, 6, 3, 3, 6]
    (auc,) = {record.provenance.retrain_auc for record in records}
    kept = json.loads((small_world.corpus / "retrain_auc.json").read_text())["scores"]
    assert auc == scoring.auc_and_stderr(kept["holdout"][:3], kept["forget"][:3])[0]


def test_second_run_computes_nothing(finished: Path, small_world: Any) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*.json")}
    assert run(small_world.config(), finished) == Outcome(done=0, failed=0, kept=6)
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*.json")} == before


@pytest.mark.parametrize("when", ["training", "evaluating"])
def test_killed_run_goes_on_where_it_stopped(
    finished: Path, small_world: Any, tmp_path: Path, when: str
) -> None:
    """SIGKILL while training, or after the first record of the method, then run again."""
    config = small_world.write_config(tmp_path)
    folder = tmp_path / "run"
    command = [sys.executable, "-m", "leaderboard", "run", str(config), "--out", str(folder)]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    awaited = "npo_gdr lora: " + ("training" if when == "training" else "rtn-int4")
    for line in process.stderr:
        if awaited in line:
            break
    time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    left = [path.name for path in (folder / "records").glob("*.json")]
    assert 4 <= len(left) <= 6

    outcome = run(small_world.config(), folder)
    assert outcome.kept == len(left)
    wanted = {r.cell.stem: what_matters(r) for r in read_records(finished)}
    found = {r.cell.stem: what_matters(r) for r in read_records(folder)}
    assert found == {stem: wanted[stem] for stem in found}
    assert len(found) == 6
    assert not list((folder / "records").glob(".*"))


def test_survival_of_a_new_precision_joins_the_report(
    finished: Path, small_world: Any, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "run"))
    (path,) = (folder / "survival").glob("*.json")
    before = json.loads(path.read_text())
    content = small_world.config(precisions=["none", "rtn-int4", "bnb-fp4"])
    assert run(content, folder).done == 3
    after = json.loads(path.read_text())
    assert "bnb-fp4" not in before["total"]["rounding"]
    assert {*after["total"]["rounding"]} == {*before["total"]["rounding"], "bnb-fp4"}
    assert after["total"]["update"] == before["total"]["update"]
    for name, layer in before["layers"].items():
        assert after["layers"][name]["rounding"]["rtn-int4"] == layer["rounding"]["rtn-int4"]
    totals = {
        record.cell.precision: record.survival.rounding
        for record in read_records(folder)
        if record.survival
    }
    for name in ("rtn-int4", "bnb-fp4"):
        assert totals[name].model_dump(exclude_none=True) == after["total"]["rounding"][name]
