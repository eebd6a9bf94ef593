"""Valid submissions and damaged files: each damage is named, and nothing is run."""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from leaderboard.errors import InputError
from leaderboard.reading import untrusted_values
from leaderboard.records import samples
from leaderboard.submissions import answer_checks, validation
from leaderboard.submissions.validation import validate

from .damage import (
    Folder,
    assert_named,
    field,
    problems,
    raw,
    sealed,
    setting,
    text,
)


def test_untouched_is_valid_and_says_what_it_cannot_know(folder: Folder) -> None:
    verdict = validate(folder.path)
    assert verdict.problems == []
    assert [finding.text for finding in verdict.findings] == [
        "evaluation.limit: only the first 6 examples of every task",
        f"the corpus {next(iter(verdict.records.values())).cell.training.corpus.name} is not one "
        "of MUSE's: its text is not checked",
    ]
    assert verdict.method == "bounded_ascent"
    assert len(verdict.records) == 6
    folder.seal()
    assert problems(folder) == [], "sealing is no damage"


def test_checksum_of_a_record_is_ignored(folder: Folder) -> None:
    """Records before 0.2 have their own checksum, besides the manifest's."""
    for path in (folder.path / "records").iterdir():
        content = json.loads(path.read_text())
        content["sha256"] = "0" * 64
        path.write_text(json.dumps(content))
    folder.seal()
    assert problems(folder) == []


def torch_file() -> bytes:
    file = io.BytesIO()
    torch.save({"weight": torch.zeros(2)}, file)
    return file.getvalue()


def zip_file() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a", "b")
    return file.getvalue()


BOMB = "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\nname: *c\n"
CASES = {
    # pickles and other archives
    "pickle as record": (text("record", pickle.dumps({"a": 1})), r"records/.*: not UTF-8: byte 0"),
    "pickle as text": (
        text("source/bounded_ascent.py", pickle.dumps(["print('hi')"], protocol=0)),
        r"source/bounded_ascent.py: is a pickle",
    ),
    "torch file": (text("README.md", torch_file()), r"README.md: not UTF-8"),
    "old torch file": (
        text("record", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."),
        r"not UTF-8: byte 0",
    ),
    "zip as answers": (text("answers", zip_file()), r"samples/.*: not a whole gzip file"),
    # text that is not UTF-8, or hides characters
    "latin-1": (text("README.md", b"caf\xe9"), r"README.md: not UTF-8: byte 3"),
    "utf-16 JSON": (text("record", "{}".encode("utf-16")), r"not UTF-8"),
    "bidirectional source": (
        text("source/bounded_ascent.py", "x = 1\naccess = 'user\u202e'"),
        r"source/bounded_ascent.py: line 2: the invisible character U\+202E",
    ),
    "zero-width README": (text("README.md", "a\u200bb"), r"README.md: line 1: .* U\+200B"),
    "filler letter": (text("README.md", "a\u3164b"), r"README.md: line 1: .* U\+3164"),
    "terminal escape": (
        field("provenance.device", "\x1b[2J"),
        r"provenance.device: line 1: the invisible character U\+001B",
    ),
    "bidirectional by escape": (
        field("provenance.platform", "a\u2066b"),
        r"provenance.platform: line 1: the invisible character U\+2066",
    ),
    "half a surrogate pair": (
        raw("provenance.python", r'"\ud800"'),
        r"provenance.python: .*U\+D800",
    ),
    # JSON that is ambiguous or beyond the limits
    "key twice": (
        lambda folder: folder.record().write_text('{"a": 1, "a": 2}'),
        r"records/.*: duplicate key a",
    ),
    "NaN": (raw("metrics.verbmem.value", "NaN"), r"NaN is no number of JSON"),
    "Infinity": (raw("metrics.verbmem.value", "-Infinity"), r"-Infinity is no number of JSON"),
    "too large": (raw("metrics.verbmem.value", "1e999"), r"metrics.verbmem.value: inf is not fin"),
    "huge integer": (raw("cell.limit", "9" * 5000), r"an integer of more than 30 digits"),
    "deep": (
        raw("calibration", '{"a":' * 40 + "1" + "}" * 40),
        r"calibration.*: nested more than 32",
    ),
    "very deep": (text("record", "[" * 200_000), r"records/.*: nested too deep"),
    "long string": (
        field("provenance.git", "x" * 100_001),
        r"provenance.git: a string of more than",
    ),
    "not JSON": (text("record", '{"a": 1} x'), r"records/.*: not JSON: line 1: Extra data"),
    "byte order mark": (text("record", b"\xef\xbb\xbf{}"), r"records/.*: not JSON"),
    # YAML
    "billion laughs": (text("config.yaml", BOMB), r"config.yaml: line 1: anchors and aliases"),
    "tag": (
        text("config.yaml", "name: !!python/object/apply:os.system [touch hacked]"),
        r"config.yaml: line 1: tags are not allowed",
    ),
    "YAML key twice": (
        text("config.yaml", "name: a\nname: b"),
        r"config.yaml: line 2: duplicate key name",
    ),
    "deep YAML": (
        text("config.yaml", "[" * 40 + "]" * 40),
        r"config.yaml: line 1: nested more than",
    ),
    "long number": (text("config.yaml", "seeds: [1" + ":1" * 900 + "]"), r"unquoted value of more"),
    "infinite YAML": (text("config.yaml", "limit: .inf"), r"config.yaml: limit: inf is not finite"),
    "date": (text("config.yaml", "name: 2026-01-01"), r"config.yaml: name: a value of type date"),
    "two documents": (text("config.yaml", "a: 1\n---\nb: 2"), r"config.yaml: not YAML"),
    "no mapping": (text("config.yaml", "hello"), r"config.yaml: top level"),
    "unknown setting": (setting("evil", 1), r"config.yaml: evil: Extra inputs"),
    "wrong setting": (setting("seeds", ["one"]), r"config.yaml: seeds.0: Input should be"),
    "search.yaml": (text("search.yaml", "name: a"), r"search.yaml: corpora: Field required"),
    "package.json": (
        text("source/package.json", '{"distribution": "../x", "version": "1"}'),
        r"source/package.json: distribution: String should match",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_damaged_content_is_named(
    folder: Folder, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        pytest.fail("something was unpickled")

    for module, function in ((pickle, "load"), (pickle, "loads"), (torch, "load")):
        monkeypatch.setattr(module, function, refuse)
    damage, expected = CASES[name]
    assert_named(folder, sealed(damage), expected)


@pytest.mark.parametrize(
    ("place", "limit", "value", "expected"),
    [
        (validation, "MAX_FILES", 8, "more than 8 files and folders"),
        (validation, "MAX_TOTAL_BYTES", 1000, "bytes in total, more than 1000"),
        (samples, "MOST_BYTES", 1000, "samples/.*: holds more than 1000 bytes"),
        (answer_checks, "MAX_ANSWERS", 3, "samples/.*: more than 12 lines"),
        (untrusted_values, "MOST_VALUES", 100, "records/.*: more than 100 values"),
    ],
)
def test_limits(
    folder: Folder,
    monkeypatch: pytest.MonkeyPatch,
    place: Any,
    limit: str,
    value: int,
    expected: str,
) -> None:
    """Limits on number and size of files, a gzip bomb included: 24 answers of over 1,000 bytes."""
    monkeypatch.setattr(place, limit, value)
    found = problems(folder)
    assert any(re.search(expected, line) for line in found), found


def test_nothing_submitted_is_imported(folder: Folder, tmp_path: Path) -> None:
    """Modules that write a file when imported, two with names of real ones, are not imported.

    Torch, which can unpickle and takes seconds to import, is not imported either.
    """
    trap = f"open({str(tmp_path / 'imported')!r}, 'w')\n"
    for name in ("bounded_ascent", "yaml", "leaderboard"):
        (folder.path / "source" / f"{name}.py").write_text(trap)
    folder.seal()
    result = subprocess.run(
        [Path(sys.executable).with_name("lm-eval-muse"), "validate", ".."],
        capture_output=True,
        text=True,
        cwd=folder.path / "source",
        env=os.environ | {"PYTHONPROFILEIMPORTTIME": "1"},
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.endswith("bounded_ascent, 6 records: valid\n")
    assert not (tmp_path / "imported").exists()
    imported = {line.rpartition("|")[2].strip() for line in result.stderr.splitlines()}
    assert "leaderboard.submissions.validation" in imported
    assert not imported & {"torch", "bounded_ascent"}


@pytest.mark.parametrize(("name", "message"), [("no", "no such folder"), (".", "no submission")])
def test_no_submission_at_all(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        validate(tmp_path / name)
