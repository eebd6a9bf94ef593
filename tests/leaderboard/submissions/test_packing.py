"""Content of a packed submission, and what is not packed."""

from __future__ import annotations

import json
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from leaderboard.cli import app
from leaderboard.config import RunConfig
from leaderboard.errors import InputError
from leaderboard.grid.plan import make_plan
from leaderboard.records.schema import REFERENCES
from leaderboard.records.store import read_records
from leaderboard.submissions import packing
from leaderboard.submissions.collection import collect
from leaderboard.submissions.packing import failures, pack
from leaderboard.submissions.submission import Submission


def load(packed: Any) -> RunConfig:
    return RunConfig.model_validate(yaml.safe_load(packed.config.read_text()))


def submission(packed: Any, method: str = "bounded_ascent", **changes: Any) -> Submission:
    """Submission as the command builds it, without the check of the contract."""
    config = load(packed)
    return Submission(
        **{
            "method": method,
            "config": config,
            "plan": [p for p in make_plan(config) if p.training.method in (*REFERENCES, method)],
            "plugins": (packed.plugin,),
            **changes,
        }
    )


def test_pack_holds_the_method_its_references_and_nothing_else(packed: Any) -> None:
    names = [path.relative_to(packed.folder).as_posix() for path in packed.folder.rglob("*.*")]
    stems = sorted(path.stem for path in (packed.run / "records").glob("*.json"))
    assert len(stems) == 6, "other methods of the grid are not even run"
    assert sorted(names) == sorted(
        ["README.md", "config.yaml", "manifest.json", "source/bounded_ascent.py"]
        + [f"records/{stem}.json" for stem in stems]
        + [f"samples/{stem}.jsonl.gz" for stem in stems]
    )
    assert (packed.folder / "source/bounded_ascent.py").read_text() == packed.plugin.read_text()
    manifest = json.loads((packed.folder / "manifest.json").read_text())
    assert manifest["cells"] == stems
    assert read_records(packed.folder) == read_records(packed.run)


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_method_of_a_package_is_named_with_its_version(
    packed: Any, trusted: None, tmp_path: Path
) -> None:
    """Built-in method as an example; its two cells are added to the run."""
    copy = shutil.copytree(packed.run, tmp_path / "run")
    options = ("--config", packed.config, "--plugin", packed.plugin, "--run", copy)
    result = run("submit", *options, "--method", "npo_gdr", "--out", tmp_path)
    assert result.exit_code == 0, result.output
    folder = tmp_path / "npo_gdr"
    assert json.loads((folder / "source" / "package.json").read_text()) == {
        "distribution": "lm-eval-muse",
        "version": version("lm-eval-muse"),
    }
    found = sorted(record.cell.training.method for record in read_records(folder))
    assert found == ["npo_gdr"] * 2 + ["retrain"] * 2 + ["target"] * 2

    board = tmp_path / "board"
    lines = list(collect([packed.folder, folder], board))
    assert lines == [
        f"{packed.folder}: 6 of 6 records taken",
        f"{folder}: 2 of 6 records taken",
    ]
    assert len(read_records(board)) == 8
    assert run("table", board).exit_code == 0
    assert "npo\\_gdr | lora" in (board / "table.md").read_text()
    assert "bounded\\_ascent | lora" in (board / "table.md").read_text()
    assert list(collect([folder], board)) == [f"{folder}: 0 of 6 records taken"]


def test_failed_cell_is_named_and_not_packed(packed: Any, trusted: None, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(packed.run, tmp_path / "run"))
    path = next((copy / "records").glob("*--lora--none--*"))
    record = json.loads(path.read_text())
    record |= {"status": "failed", "reason": "out of memory", "metrics": {}, "samples": None}
    path.write_text(json.dumps(record))
    found = submission(packed)
    assert failures(found, copy) == [f"{path.stem} failed: out of memory"]
    options = ("--config", packed.config, "--plugin", packed.plugin, "--run", copy)
    result = run("submit", *options, "--out", tmp_path)
    assert result.exit_code == 1
    assert not (tmp_path / "bounded_ascent").exists()
    with pytest.raises(InputError, match=r"not fit for a submission: .*: status: failed"):
        pack(found, copy, tmp_path / "pack")
    path.unlink()
    with pytest.raises(InputError, match=r"no record of .*; run the grid to its end"):
        pack(found, copy, tmp_path / "pack")
    assert not (tmp_path / "pack").exists()


def test_interrupted_packing_leaves_nothing(
    packed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(folder: Path) -> None:
        assert (folder / "manifest.json").exists()
        raise KeyboardInterrupt

    monkeypatch.setattr(packing, "validate", interrupt)
    with pytest.raises(KeyboardInterrupt):
        pack(submission(packed), packed.run, tmp_path / "packs" / "bounded_ascent")
    assert list((tmp_path / "packs").iterdir()) == []
