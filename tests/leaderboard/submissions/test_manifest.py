"""Damage to the folder of a submission and to its manifest."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from typing import Any

import pytest

from .damage import (
    Folder,
    assert_named,
    field,
    text,
)


def unsealed(edit: Callable[[dict[str, Any]], Any]) -> Callable[[Folder], None]:
    return lambda folder: folder.change_manifest(edit)


def sparse(name: str, size: int) -> Callable[[Folder], None]:
    return lambda folder: os.truncate(folder.path / name, size)


def replace_by_link(folder: Folder) -> None:
    path = folder.record()
    elsewhere = path.rename(folder.path.parent / "elsewhere.json")
    path.symlink_to(elsewhere)


def link_folder(folder: Folder) -> None:
    elsewhere = (folder.path / "source").rename(folder.path.parent / "elsewhere")
    (folder.path / "source").symlink_to(elsewhere)


def new(name: str) -> Callable[[Folder], None]:
    def damage(folder: Folder) -> None:
        path = folder.path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text("hello")

    return damage


CASES = {
    "extra file": (new("evil.py"), r"evil.py: not allowed"),
    "hidden file": (new(".gitattributes"), r"\.gitattributes: not allowed"),
    "file among records": (new("records/evil.pkl"), r"records/evil.pkl: not allowed"),
    "folder in a folder": (new("source/pkg/evil.py"), r"source/pkg/: not allowed"),
    "another folder": (new("evil/x"), r"evil/: not allowed"),
    "direction in a name": (new("source/a\u202eyp.py"), r"source/a\\u202eyp.py: not allowed"),
    "bytes that are no name": (
        lambda folder: (folder.path / os.fsdecode(b"source/\xff.py")).write_text("x"),
        r"source/\\udcff.py: not allowed",
    ),
    "symbolic link": (replace_by_link, r"records/.*: a symbolic link"),
    "link of a folder": (link_folder, r"problem: source: a symbolic link"),
    "link as manifest": (
        lambda folder: (
            (folder.path / "manifest.json").rename(folder.path.parent / "m")
            and (folder.path / "manifest.json").symlink_to(folder.path.parent / "m")
        ),
        r"manifest.json: a symbolic link",
    ),
    "hard link": (
        lambda folder: (folder.path.parent / "elsewhere").hardlink_to(folder.record()),
        r"records/.*: a hard link",
    ),
    "pipe": (
        lambda folder: (folder.record().unlink(), os.mkfifo(folder.path / "records" / "a.json")),
        r"records/a.json: not a regular file",
    ),
    "no README": (lambda folder: (folder.path / "README.md").unlink(), r"README.md: is missing"),
    "no config": (
        lambda folder: (folder.path / "config.yaml").unlink(),
        r"config.yaml: is missing",
    ),
    "no source": (
        lambda folder: shutil.rmtree(folder.path / "source"),
        r"source/: is missing or empty",
    ),
    "no record": (
        lambda folder: folder.record().unlink(),
        r"manifest.json: cells: listed, but records/.* does not exist",
    ),
    "no answers": (
        lambda folder: folder.answers().unlink(),
        r"records/.*: samples: samples/.* does not exist",
    ),
    "answers denied": (field("samples", None), r"records/.*: samples: null, but samples/.* exists"),
    "large record": (
        lambda folder: os.truncate(folder.record(), 2**22 + 1),
        r"records/.*: 4194305 bytes, more than 4194304",
    ),
    "large string": (sparse("README.md", 100 * 2**20), r"README.md: 104857600 bytes, more than"),
    "other hash": (text("README.md", "x" * 10), r"README.md: 10 bytes, manifest.json says"),
    "same size": (
        lambda folder: (folder.path / "README.md").write_bytes(
            bytes((folder.path / "README.md").stat().st_size)
        ),
        r"README.md: SHA-256 differs from manifest.json",
    ),
    "path outside": (
        unsealed(
            lambda m: m["files"].update({"../../etc/passwd": {"sha256": "0" * 64, "bytes": 1}})
        ),
        r"manifest.json: files: ../../etc/passwd does not exist",
    ),
    "file not listed": (
        unsealed(lambda m: m["files"].pop("README.md")),
        r"files: README.md exists but is not listed",
    ),
    "cell outside": (
        unsealed(lambda m: m["cells"].append("../../x")),
        r"cells: listed, but records/../../x.json does not exist",
    ),
    "cell twice": (unsealed(lambda m: m["cells"].append(m["cells"][0])), r"is listed 2 times"),
    "cell not promised": (unsealed(lambda m: m["cells"].pop()), r"exists but is not listed"),
    "format": (unsealed(lambda m: m.update(format=2)), r"manifest.json: format: Input should be 1"),
    "method": (
        unsealed(lambda m: m.update(method="../x")),
        r"manifest.json: method: String should",
    ),
    "reference": (
        unsealed(lambda m: m.update(method="target")),
        r"target is the name of a referen",
    ),
    "hash": (
        unsealed(lambda m: m["files"]["README.md"].update(sha256="x")),
        r"manifest.json: files.README.md.sha256: String should match",
    ),
    "manifest": (text("manifest.json", "[]"), r"manifest.json: top level: Input should be an obj"),
    "orphan": (
        lambda folder: shutil.copy(folder.answers(), folder.path / "samples" / "a.jsonl.gz"),
        r"samples/a.jsonl.gz: no record belongs to this file",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_damaged_folder_is_named(folder: Folder, name: str) -> None:
    assert_named(folder, *CASES[name])
