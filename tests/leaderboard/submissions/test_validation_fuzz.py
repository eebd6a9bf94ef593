"""Validation of arbitrary files ends with findings, never with an exception."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from leaderboard.reading.untrusted_files import UnsafeError, read_text, to_ascii_line
from leaderboard.reading.untrusted_values import read_json, read_yaml
from leaderboard.records.schema import Record
from leaderboard.submissions.answer_checks import answer_problems, read_answers
from leaderboard.submissions.record_checks import read_record, record_problems
from leaderboard.submissions.validation import validate

from ..nested_values import places, replaced

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=10**29)
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["target", "retrain", "books", "news", "hub", "done", "diverged", "all"])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
READERS: list[Callable[[bytes], Any]] = [read_text, read_json, read_yaml, read_record, read_answers]


def clean(read: Callable[[bytes], Any], content: bytes) -> None:
    try:
        read(content)
    except UnsafeError as error:
        assert to_ascii_line(str(error)).isprintable()


@settings(max_examples=300, deadline=None)
@given(content=st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_readers_take_any_bytes(content: bytes) -> None:
    for read in READERS:
        clean(read, content)


@settings(max_examples=200, deadline=None)
@given(value=VALUES)
def test_readers_take_any_value(value: Any) -> None:
    for read in READERS:
        clean(read, json.dumps(value).encode())
    clean(read_yaml, yaml.safe_dump(value).encode())
    clean(read_yaml, repr(value).encode(errors="replace"))


@pytest.fixture(scope="module")
def folder(packed: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(packed.folder, tmp_path_factory.mktemp("fuzz") / "submission"))


def seal(folder: Path, name: str, content: bytes) -> None:
    """Write a file, and update the manifest."""
    (folder / name).write_bytes(content)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name] = {
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))


def outcome(folder: Path) -> list[str]:
    lines = [str(finding) for finding in validate(folder).findings]
    assert all(line.isascii() and line.isprintable() for line in lines)
    return lines


@settings(max_examples=150, deadline=None)
@given(
    data=st.data(), value=VALUES, name=st.sampled_from(["record", "config.yaml", "manifest.json"])
)
def test_any_value_at_any_place(folder: Path, data: st.DataObject, value: Any, name: str) -> None:
    """Replace one value of a valid record, configuration or manifest."""
    path = next((folder / "records").glob("*--lora--*")) if name == "record" else folder / name
    before, manifest = path.read_bytes(), (folder / "manifest.json").read_bytes()
    content = (yaml.safe_load if path.suffix == ".yaml" else json.loads)(before)
    place = data.draw(st.sampled_from(places(content)))
    other = replaced(content, place, value)
    changed = json.dumps(other).encode()  # which is YAML, too
    try:
        if name == "manifest.json":
            path.write_bytes(changed)
        else:
            seal(folder, path.relative_to(folder).as_posix(), changed)
        outcome(folder)
    finally:
        path.write_bytes(before)
        (folder / "manifest.json").write_bytes(manifest)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_byte_of_any_file(folder: Path, data: st.DataObject) -> None:
    """Flipped bytes are detected in all files."""
    names = ["README.md", "config.yaml", "manifest.json", "source/bounded_ascent.py"]
    names += [next(folder.glob(f"{kind}/*--lora--*")) for kind in ("records", "samples")]
    path = folder / data.draw(st.sampled_from(names))
    before = path.read_bytes()
    position = data.draw(st.integers(0, len(before) - 1))
    flipped = before[position] ^ data.draw(st.integers(1, 255))
    try:
        path.write_bytes(before[:position] + bytes([flipped]) + before[position + 1 :])
        # white space between values means nothing, and the manifest has no hash of itself
        assert outcome(folder) or path.name == "manifest.json"
    finally:
        path.write_bytes(before)


@settings(max_examples=150, deadline=None)
@given(data=st.data(), value=SCALARS)
def test_any_value_in_any_answer(packed: Any, data: st.DataObject, value: Any) -> None:
    """Answers are compared with the record's metrics, or refused."""
    path = next((packed.folder / "records").glob("*--lora--*"))
    record = Record.model_validate_json(path.read_bytes())
    answers = packed.folder / "samples" / f"{path.stem}.jsonl.gz"
    lines = [json.loads(line) for line in gzip.decompress(answers.read_bytes()).splitlines()]
    line = data.draw(st.sampled_from(lines))
    line[data.draw(st.sampled_from(sorted(line)))] = value
    text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)

    def check(content: bytes) -> None:
        for problem in answer_problems(record, read_answers(content)):
            assert to_ascii_line(problem).isprintable()

    clean(check, text.encode())


def test_untouched_afterwards(folder: Path) -> None:
    """Untouched folder after the tests above."""
    assert validate(folder).problems == []
    for path in (folder / "records").glob("*.json"):
        assert list(record_problems(read_record(path.read_bytes()))) == []
