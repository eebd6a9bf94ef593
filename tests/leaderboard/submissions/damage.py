"""A submission to damage, and ways to damage it."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from leaderboard.records import samples
from leaderboard.records.schema import Cell
from leaderboard.submissions.validation import validate

METHOD = "bounded_ascent--lora--none"


class Folder:
    """Submission to damage; ``seal`` corrects the checksums afterwards."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def record(self, name: str = METHOD) -> Path:
        (path,) = (self.path / "records").glob(f"*--{name}--*.json")
        return path

    def answers(self, name: str = METHOD) -> Path:
        (path,) = (self.path / "samples").glob(f"*--{name}--*.jsonl.gz")
        return path

    def change(self, edit: Callable[[dict[str, Any]], Any], name: str = METHOD) -> None:
        """Edit the JSON of a record in place."""
        path = self.record(name)
        content = json.loads(path.read_text())
        edit(content)
        path.write_text(json.dumps(content))

    def change_cell(self, edit: Callable[[dict[str, Any]], Any], name: str = METHOD) -> None:
        """Edit the cell of a record, and rename the files accordingly."""
        path, answers = self.record(name), self.answers(name)
        self.change(lambda record: edit(record["cell"]), name)
        stem = Cell.model_validate(json.loads(path.read_text())["cell"]).stem
        path.rename(path.with_name(f"{stem}.json"))
        answers.rename(answers.with_name(f"{stem}.jsonl.gz"))

    def lines(self, name: str = METHOD) -> list[dict[str, Any]]:
        return [
            json.loads(line)
            for line in gzip.decompress(self.answers(name).read_bytes()).splitlines()
        ]

    def write_lines(self, content: bytes | list[dict[str, Any]], name: str = METHOD) -> None:
        """Replace the answers, and their SHA-256 in the record."""
        if isinstance(content, list):
            fields = [*samples.Sample.model_fields, *(key for line in content for key in line)]
            ordered = [{key: line[key] for key in fields if key in line} for line in content]
            text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in ordered)
            content = text.encode()
        self.answers(name).write_bytes(gzip.compress(content))
        sha = hashlib.sha256(content).hexdigest()
        self.change(lambda record: record.update(samples=sha), name)

    def change_answer(self, of: str, /, name: str = METHOD, **fields: Any) -> None:
        """Edit the first answer to a task; a field set to None is removed."""
        lines = self.lines(name)
        line = next(line for line in lines if line["task"] == of)
        line.update(fields)
        for field in [field for field, value in line.items() if value is None]:
            del line[field]
        self.write_lines(lines, name)

    def change_yaml(self, edit: Callable[[dict[str, Any]], Any]) -> None:
        path = self.path / "config.yaml"
        content = yaml.safe_load(path.read_text())
        edit(content)
        path.write_text(yaml.safe_dump(content))

    def change_manifest(self, edit: Callable[[dict[str, Any]], Any]) -> None:
        path = self.path / "manifest.json"
        content = json.loads(path.read_text())
        edit(content)
        path.write_text(json.dumps(content))

    def seal(self) -> None:
        """Correct the files and cells of the manifest."""
        paths = [p for p in self.path.glob("*/*") if p.is_file() and not p.is_symlink()]
        paths += [self.path / name for name in ("README.md", "config.yaml", "search.yaml")]
        contents = {
            path.relative_to(self.path).as_posix(): path.read_bytes()
            for path in paths
            if path.exists()
        }
        files = {
            name: {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
            for name, content in contents.items()
        }
        cells = sorted(Path(name).stem for name in contents if name.startswith("records/"))
        self.change_manifest(lambda manifest: manifest.update(files=files, cells=cells))


Damage = Callable[[Folder], Any]


def problems(folder: Folder) -> list[str]:
    return [str(problem) for problem in validate(folder.path).problems]


def assert_named(folder: Folder, damage: Damage, expected: str) -> None:
    """Check that the damage is among the findings, and that all are safe to print."""
    damage(folder)
    found = problems(folder)
    assert any(re.search(expected, line) for line in found), found
    assert all(line.isascii() and line.isprintable() for line in found)


def sealed(damage: Damage) -> Damage:
    """Correct the manifest after the damage, so that the checksums do not hide it."""
    return lambda folder: (damage(folder), folder.seal())


def rename_method(name: str) -> Callable[[Folder], None]:
    def damage(folder: Folder) -> None:
        folder.change_cell(lambda cell: cell["training"].update(method=name))

    return damage


def text(name: str, content: str | bytes) -> Callable[[Folder], None]:
    """Replace the content of a file; ``record`` and ``answers`` stand for one of each."""

    def damage(folder: Folder) -> None:
        path = folder.path / name
        if name in ("record", "answers"):
            path = getattr(folder, name)()
        path.write_bytes(content.encode() if isinstance(content, str) else content)

    return damage


def field(path: str, value: Any, name: str = METHOD) -> Callable[[Folder], None]:
    """Change one value of a record; ``...`` removes it."""
    return lambda folder: folder.change(lambda record: put(record, path, value), name)


def raw(path: str, literal: str) -> Callable[[Folder], None]:
    """Write JSON into a record that `json.dumps` would not."""

    def damage(folder: Folder) -> None:
        field(path, "@")(folder)
        file = folder.record()
        file.write_text(file.read_text().replace('"@"', literal))

    return damage


def setting(path: str, value: Any) -> Callable[[Folder], None]:
    """Change one value of config.yaml."""
    return lambda folder: folder.change_yaml(lambda content: put(content, path, value))


def put(content: Any, path: str, value: Any) -> None:
    """Set the value at a path such as ``seeds.0``; ``...`` removes it."""
    *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    for parent in parents:
        content = content[parent]
    if value is ...:
        del content[last]
    else:
        content[last] = value


def answer(of: str, **fields: Any) -> Callable[[Folder], None]:
    return lambda folder: folder.change_answer(of, **fields)


def lines(edit: Callable[[list[dict[str, Any]]], Any]) -> Callable[[Folder], None]:
    def damage(folder: Folder) -> None:
        content = folder.lines()
        edit(content)
        folder.write_lines(content)

    return damage


def add(path: str, value: float) -> Callable[[Folder], None]:
    def damage(folder: Folder) -> None:
        _, metric, part = path.split(".")

        def change(record: dict[str, Any]) -> None:
            record["metrics"][metric][part] += value

        folder.change(change)

    return damage
