"""Collection of submissions: what is copied, refused and reported."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from leaderboard.errors import InputError
from leaderboard.records.store import RunFolder, read_records
from leaderboard.submissions.collection import collect
from leaderboard.submissions.validation import validate


def test_different_metrics_are_reported(packed: Any, tmp_path: Path) -> None:
    """Cell from two machines: the recorded one is kept."""
    other = RunFolder(tmp_path / "board", "board")
    records = read_records(packed.folder)
    changed = records[0].model_copy(update={"metrics": {}})
    other.write_record(changed)
    lines = list(collect([packed.folder], tmp_path / "board"))
    assert lines == [
        f"{packed.folder}: metrics of {changed.cell.stem} differ; kept the recorded ones",
        f"{packed.folder}: 5 of 6 records taken",
    ]


def test_only_valid_ones_are_collected(packed: Any, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(packed.folder, tmp_path / "broken"))
    (broken / "README.md").unlink()
    with pytest.raises(InputError, match=r"broken is not valid \(problem: README.md: is missing\)"):
        list(collect([packed.folder, broken], tmp_path / "board"))
    assert not (tmp_path / "board").exists()


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_collect_requires_the_precisions_of_the_folder(packed: Any, board: Path) -> None:
    before = contents(board)
    with pytest.raises(InputError) as caught:
        list(collect([packed.folder], board))
    text = "precisions: the board has rtn-int8, the submission lacks it"
    assert str(caught.value) == f"{packed.folder}: {text}"
    assert contents(board) == before


@pytest.fixture
def unquantized(packed: Any, tmp_path: Path) -> Path:
    """Valid submission of the same cells except those at rtn-int4."""
    folder = Path(shutil.copytree(packed.folder, tmp_path / "unquantized"))
    for path in folder.glob("*/*--rtn-int4--*"):
        path.unlink()
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["precisions"] = config["precisions"][:1]
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    names = [p for p in folder.rglob("*") if p.is_file() and p.name != "manifest.json"]
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["cells"] = [path.stem for path in names if path.parent.name == "records"]
    manifest["files"] = {
        path.relative_to(folder).as_posix(): {
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "bytes": path.stat().st_size,
        }
        for path in names
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert validate(folder).problems == []
    return folder


def test_collect_requires_the_precisions_of_the_others(
    packed: Any, unquantized: Path, tmp_path: Path
) -> None:
    """Submissions in both orders; on its own, the smaller one is accepted."""
    for folders in ([packed.folder, unquantized], [unquantized, packed.folder]):
        with pytest.raises(InputError) as caught:
            list(collect(folders, tmp_path / "new"))
        text = "precisions: the board has rtn-int4, the submission lacks it"
        assert str(caught.value) == f"{unquantized}: {text}"
        assert not (tmp_path / "new").exists()
    assert list(collect([unquantized], tmp_path / "new")) == [
        f"{unquantized}: 3 of 3 records taken"
    ]


def test_folder_of_other_texts_sets_no_precisions(
    packed: Any, unquantized: Path, make: Any, tmp_path: Path
) -> None:
    """Text that is new to the folder: it needs the precisions of all its submissions."""
    store = RunFolder(tmp_path / "board", "board")
    store.write_record(make("target", "rtn-int8"))
    before = contents(store.path)
    with pytest.raises(InputError, match="unquantized: precisions: the board has rtn-int4"):
        list(collect([packed.folder, unquantized], store.path))
    assert contents(store.path) == before
    assert list(collect([packed.folder], store.path)) == [f"{packed.folder}: 6 of 6 records taken"]
