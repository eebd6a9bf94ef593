"""Files that are written whole or not at all, and checksums of folders."""

import hashlib
from pathlib import Path

import pytest

from unlearners.files import (
    damaged_file,
    replace_file,
    replacing,
    sha256,
    write_checksums,
    write_json,
    write_new,
)


def test_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    replace_file(path, "one")
    with pytest.raises(RuntimeError), replacing(path) as unfinished:
        unfinished.write_text("half")
        raise RuntimeError
    assert path.read_text() == "one"
    assert [entry.name for entry in path.parent.iterdir()] == ["file"]
    replace_file(path, b"two")
    assert path.read_bytes() == b"two"


def test_new_file_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "record"
    assert write_new(path, "one") is True
    assert write_new(path, "two") is False
    assert path.read_text() == "one"
    assert [entry.name for entry in tmp_path.iterdir()] == ["record"]


def test_json(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": [1]})
    assert (tmp_path / "a.json").read_text() == '{\n  "b": [\n    1\n  ]\n}\n'


def test_digest_of_several_files_is_that_of_their_bytes(tmp_path: Path) -> None:
    paths = [tmp_path / "a", tmp_path / "b"]
    for path, content in zip(paths, ("x" * 2_000_000, "y"), strict=True):
        path.write_text(content)
    assert sha256(*paths) == hashlib.sha256(b"x" * 2_000_000 + b"y").hexdigest()


def test_checksums(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a").write_text("1")
    write_checksums(tmp_path)
    assert damaged_file(tmp_path) is None
    (tmp_path / "later").touch()
    assert damaged_file(tmp_path) is None
    (tmp_path / "sub" / "a").write_text("2")
    assert damaged_file(tmp_path) == tmp_path / "sub" / "a"
    (tmp_path / "sub" / "a").unlink()
    assert damaged_file(tmp_path) == tmp_path / "sub" / "a"


def test_folder_without_checksums_is_taken_as_it_is(tmp_path: Path) -> None:
    assert damaged_file(tmp_path) is None


def test_error_names_the_file_that_was_asked_for(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError) as caught, replacing(tmp_path / "file") as unfinished:
        (unfinished / "below").touch()  # not a folder
    assert "unfinished" in str(caught.value)  # another file
    with pytest.raises(OSError) as caught, replacing(tmp_path / "file") as unfinished:
        unfinished.read_text()
    assert caught.value.filename == str(tmp_path / "file")
