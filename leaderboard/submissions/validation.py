"""Validation of a submission without trust: nothing of it is imported, unpickled or run."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from ..config import RunConfig
from ..errors import InputError
from ..reading.untrusted_files import (
    Unsafe,
    kind,
    list_files,
    read_bytes,
    read_text,
    short,
)
from ..reading.untrusted_values import read_json, read_yaml
from ..records import samples
from ..records.schema import REFERENCES, Record
from . import manifest as layout
from .answer_checks import answer_problems, read_answers
from .benchmark_checks import benchmark_findings
from .board import Precisions, precision_findings
from .findings import Finding
from .grid_checks import Together, grid_findings
from .manifest import Manifest, Package
from .record_checks import first_error, read_record, record_problems

M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")


@dataclass
class Verdict:
    """Result of the validation.

    Attributes:
        folder: the submission.
        method: name in the manifest; empty where that cannot be read.
        records: records that could be read, by the path of their file.
        findings: problems and warnings, in the order in which they were found.
    """

    folder: Path
    method: str = ""
    records: dict[str, Record] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    @property
    def problems(self) -> list[Finding]:
        """Findings that are no warnings."""
        return [finding for finding in self.findings if not finding.warning]

    def add(self, place: str, *texts: str) -> None:
        """Add problems of one file."""
        self.findings += [Finding(place, text) for text in texts]


def validate(
    folder: Path,
    watch: Callable[[list[str]], Iterable[str]] = iter,
    board: Precisions | None = None,
) -> Verdict:
    """Check everything about a submission that can be checked without running it.

    Args:
        folder: the submission.
        watch: iterates over the names of its records, for a progress bar.
        board: precisions that it must have, as `board.board_precisions` gives them; not checked
            where left out.

    Raises:
        InputError: the folder is not a submission at all.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    if not (folder / layout.MANIFEST).is_file():
        raise InputError(f"{folder}: no submission found there (expected {layout.MANIFEST})")
    verdict = _Submission(folder).check(watch)
    if board is not None:
        verdict.findings += precision_findings(verdict.records.values(), board)
    return verdict


class _Submission:
    """Submission while it is checked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.verdict = Verdict(folder)
        self.manifest: Manifest | None = None

    def check(self, watch: Callable[[list[str]], Iterable[str]]) -> Verdict:
        names = self._names()
        if layout.MANIFEST in names:
            self.manifest = self._read(layout.MANIFEST, partial(_parse, Manifest))
        if self.manifest:
            self.verdict.method = self.manifest.method
            self.verdict.add(layout.MANIFEST, *_manifest_problems(self.manifest, names))
        for name in names:
            if name.endswith((".md", ".py")):
                self._read(name, read_text)
        if layout.PACKAGE in names:
            self._read(layout.PACKAGE, partial(_parse, Package))
        if layout.SEARCH in names:
            self._read(layout.SEARCH, _search)
        config = self._read(layout.CONFIG, _config) if layout.CONFIG in names else None

        together = Together()
        for name in watch([name for name in names if name.startswith("records/")]):
            self._check_cell(name, names, together)
        for name in names:
            record = name.replace("samples/", "records/", 1).removesuffix(".jsonl.gz") + ".json"
            if name.startswith("samples/") and record not in names:
                self.verdict.add(name, "there is no record that it belongs to")
        records = self.verdict.records
        if config and self.manifest:
            self.verdict.findings += grid_findings(config, self.manifest.method, records)
        self.verdict.findings += benchmark_findings(records)
        return self.verdict

    def _names(self) -> dict[str, None]:
        """List the files that may be read, in order; everything else is a finding."""
        found = {}
        try:
            for name, status in list_files(self.folder, layout.MOST_FILES):
                most = layout.most_bytes(name)
                if name.endswith("/"):
                    problem = None if name in layout.FOLDERS else "has no place in a submission"
                elif problem := kind(status):
                    pass
                elif most is None:
                    problem = "has no place in a submission"
                elif status.st_size > most:
                    problem = f"{status.st_size} bytes, more than {most}"
                else:
                    found[name] = status.st_size
                if problem:
                    self.verdict.add(name, problem)
        except Unsafe as error:
            self.verdict.add(".", str(error))
        if (total := sum(found.values())) > layout.MOST_TOTAL:
            self.verdict.add(".", f"{total} bytes in all, more than {layout.MOST_TOTAL}")
            return {}
        for name in (layout.CONFIG, layout.README):
            if name not in found:
                self.verdict.add(name, "is missing")
        for folder in layout.FOLDERS:
            if not any(name.startswith(folder) for name in found):
                self.verdict.add(folder, "is missing or empty")
        return dict.fromkeys(sorted(found))

    def _read(self, name: str, parse: Callable[[bytes], T]) -> T | None:
        """Read and parse a file; None, and a finding, where it is not what it should be."""
        try:
            content = read_bytes(self.folder, name, layout.most_bytes(name) or 0)
            self._check_hash(name, content)
            return parse(content)
        except Unsafe as error:
            self.verdict.add(name, str(error))
            return None

    def _check_hash(self, name: str, content: bytes) -> None:
        entry = self.manifest.files.get(name) if self.manifest else None
        if entry and len(content) != entry.bytes:
            text = f"{len(content)} bytes, {layout.MANIFEST} says {entry.bytes}"
            self.verdict.add(name, text)
        elif entry and hashlib.sha256(content).hexdigest() != entry.sha256:
            self.verdict.add(name, f"not the SHA-256 that {layout.MANIFEST} says")

    def _check_cell(self, name: str, names: Collection[str], together: Together) -> None:
        """Check a record and its answers."""
        record = self._read(name, read_record)
        if record is None:
            return
        self.verdict.records[name] = record
        self.verdict.add(name, *record_problems(record))
        if name != f"records/{record.cell.stem}.json":
            stem = short(record.cell.stem)
            self.verdict.add(name, f"holds another cell than its name says: {stem}")
        place = name.replace("records/", "samples/", 1).removesuffix(".json") + ".jsonl.gz"
        if (place in names) != (record.samples is not None):
            text = "samples: null, but there are answers" if record.samples is None else None
            self.verdict.add(name, text or f"samples: there is no {place}")
        elif record.samples is not None and (lines := self._read(place, _decompress)) is not None:
            if samples.sha256(lines) != record.samples:
                self.verdict.add(place, "not the SHA-256 of its record")
            try:
                answers = read_answers(lines)
            except Unsafe as error:
                self.verdict.add(place, str(error))
                return
            self.verdict.add(place, *answer_problems(record, answers))
            self.verdict.add(place, *together.problems(record, answers, place))


def _manifest_problems(manifest: Manifest, names: Collection[str]) -> Iterator[str]:
    there = {*names} - {layout.MANIFEST}
    if manifest.method in REFERENCES:
        yield f"method: {manifest.method} is the name of a reference row"
    for name in sorted(manifest.files.keys() - there):
        yield f"files: {short(name)} is not there"
    for name in sorted(there - manifest.files.keys()):
        yield f"files: lacks {name}, which is there"
    for cell, count in Counter(manifest.cells).items():
        if count > 1:
            yield f"cells: {short(cell)} is listed {count} times"
    promised = {f"records/{cell}.json" for cell in manifest.cells}
    recorded = {name for name in there if name.startswith("records/")}
    for name in sorted(promised - recorded):
        yield f"cells: promised, but there is no {short(name)}"
    for name in sorted(recorded - promised):
        yield f"cells: {name} is there, but not promised"


def _parse(model: type[M], content: bytes) -> M:
    return _validated(model, read_json(content))


def _config(content: bytes) -> RunConfig:
    return _validated(RunConfig, read_yaml(content))


def _search(content: bytes) -> BaseModel:
    from ..grid.sweep import SweepConfig

    return _validated(SweepConfig, read_yaml(content))


def _validated(model: type[M], value: Any) -> M:
    try:
        return model.model_validate_json(json.dumps(value))
    except ValidationError as error:
        raise Unsafe(first_error(error)) from error


def _decompress(content: bytes) -> bytes:
    try:
        return samples.decompress(content)
    except ValueError as error:
        raise Unsafe(str(error)) from error
