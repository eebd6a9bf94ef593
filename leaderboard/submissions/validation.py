"""Validation of an untrusted submission: none of it is imported, unpickled or run."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from ..config import RunConfig
from ..errors import InputError
from ..grid.sweep import SweepConfig
from ..reading.untrusted_files import (
    UnsafeError,
    kind,
    list_files,
    read_bytes,
    read_text,
    short,
)
from ..reading.untrusted_values import read_json, read_yaml
from ..records import samples
from ..records.schema import REFERENCES, Record
from .answer_checks import FirstAsked, answer_problems, question_problems, read_answers
from .benchmark_checks import benchmark_findings
from .board import Precisions, precision_findings
from .findings import Finding
from .grid_checks import grid_findings
from .manifest import (
    CONFIG,
    FOLDERS,
    MANIFEST,
    MAX_FILES,
    MAX_TOTAL_BYTES,
    PACKAGE,
    README,
    SEARCH,
    Manifest,
    Package,
    max_bytes,
)
from .record_checks import parse_model, read_record, record_problems

T = TypeVar("T")


@dataclass
class Verdict:
    """Result of the validation.

    Attributes:
        method: Name in the manifest; empty if the manifest cannot be read.
        records: Readable records, by the path of their file.
        findings: Problems and warnings, in order of discovery.
    """

    method: str = ""
    records: dict[str, Record] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    @property
    def problems(self) -> list[Finding]:
        """Findings that make the submission invalid."""
        return [finding for finding in self.findings if not finding.warning]

    def add(self, path: str, *texts: str) -> None:
        """Add problems of one file."""
        self.findings += [Finding(path, text) for text in texts]


def validate(
    folder: Path,
    watch: Callable[[list[str]], Iterable[str]] = iter,
    board: Precisions | None = None,
) -> Verdict:
    """Check everything about a submission that can be checked without running it.

    Args:
        folder: The submission.
        watch: Iterates over the paths of the records, for a progress bar.
        board: Precisions that the submission must have, from `board.board_precisions`; not checked
            if left out.

    Raises:
        InputError: The folder does not exist or has no manifest.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    if not (folder / MANIFEST).is_file():
        raise InputError(f"{folder}: no submission found there (expected {MANIFEST})")
    verdict = _Validator(folder).run(watch)
    if board is not None:
        verdict.findings += precision_findings(verdict.records.values(), board)
    return verdict


class _Validator:
    """One validation, with the files and cells checked before."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.verdict = Verdict()
        self.manifest: Manifest | None = None
        self.first_asked: FirstAsked = {}

    def run(self, watch: Callable[[list[str]], Iterable[str]]) -> Verdict:
        names = self._list_names()
        if MANIFEST in names:
            self.manifest = self._read(MANIFEST, lambda b: parse_model(Manifest, read_json(b)))
        if self.manifest:
            self.verdict.method = self.manifest.method
            self.verdict.add(MANIFEST, *_manifest_problems(self.manifest, names))
        for name in names:
            if name.endswith((".md", ".py")):
                self._read(name, read_text)
        if PACKAGE in names:
            self._read(PACKAGE, lambda b: parse_model(Package, read_json(b)))
        if SEARCH in names:
            self._read(SEARCH, lambda b: parse_model(SweepConfig, read_yaml(b)))
        config = None
        if CONFIG in names:
            config = self._read(CONFIG, lambda b: parse_model(RunConfig, read_yaml(b)))
        for name in watch([name for name in names if name.startswith("records/")]):
            self._check_cell(name, names)
        for name in names:
            record = name.replace("samples/", "records/", 1).removesuffix(".jsonl.gz") + ".json"
            if name.startswith("samples/") and record not in names:
                self.verdict.add(name, "no record belongs to this file")
        records = self.verdict.records
        if config and self.manifest:
            self.verdict.findings += grid_findings(config, self.manifest.method, records)
        self.verdict.findings += benchmark_findings(records)
        return self.verdict

    def _list_names(self) -> dict[str, None]:
        """List the files that may be read, as sorted keys; everything else is a finding."""
        sizes = {}
        try:
            for name, status in list_files(self.folder, MAX_FILES):
                limit = max_bytes(name)
                if name in FOLDERS:
                    continue
                if not name.endswith("/") and (problem := kind(status)):
                    self.verdict.add(name, problem)
                elif limit is None:
                    self.verdict.add(name, "not allowed in a submission")
                elif status.st_size > limit:
                    self.verdict.add(name, f"{status.st_size} bytes, more than {limit}")
                else:
                    sizes[name] = status.st_size
        except UnsafeError as error:
            self.verdict.add(".", str(error))
        if (total := sum(sizes.values())) > MAX_TOTAL_BYTES:
            self.verdict.add(".", f"{total} bytes in total, more than {MAX_TOTAL_BYTES}")
            return {}
        for name in (CONFIG, README):
            if name not in sizes:
                self.verdict.add(name, "is missing")
        for folder in FOLDERS:
            if not any(name.startswith(folder) for name in sizes):
                self.verdict.add(folder, "is missing or empty")
        return dict.fromkeys(sorted(sizes))

    def _read(self, name: str, parse: Callable[[bytes], T]) -> T | None:
        """Read, checksum and parse a file; return None, with a finding, if it is unsafe."""
        try:
            content = read_bytes(self.folder, name, max_bytes(name) or 0)
            entry = self.manifest.files.get(name) if self.manifest else None
            if entry and len(content) != entry.bytes:
                self.verdict.add(name, f"{len(content)} bytes, {MANIFEST} says {entry.bytes}")
            elif entry and hashlib.sha256(content).hexdigest() != entry.sha256:
                self.verdict.add(name, f"SHA-256 differs from {MANIFEST}")
            return parse(content)
        except ValueError as error:  # UnsafeError is one, too
            self.verdict.add(name, str(error))
            return None

    def _check_cell(self, name: str, names: Collection[str]) -> None:
        """Check a record and its answers."""
        record = self._read(name, read_record)
        if record is None:
            return
        self.verdict.records[name] = record
        self.verdict.add(name, *record_problems(record))
        stem = record.cell.stem
        if name != f"records/{stem}.json":
            self.verdict.add(name, f"the file name is not that of its cell: {short(stem)}")
        path = name.replace("records/", "samples/", 1).removesuffix(".json") + ".jsonl.gz"
        if record.samples is None:
            if path in names:
                self.verdict.add(name, f"samples: null, but {path} exists")
        elif path not in names:
            self.verdict.add(name, f"samples: {path} does not exist")
        elif (lines := self._read(path, samples.decompress)) is not None:
            if samples.sha256(lines) != record.samples:
                self.verdict.add(path, "SHA-256 differs from its record")
            try:
                answers = read_answers(lines)
            except UnsafeError as error:
                self.verdict.add(path, str(error))
                return
            self.verdict.add(path, *answer_problems(record, answers))
            self.verdict.add(path, *question_problems(record, answers, path, self.first_asked))


def _manifest_problems(manifest: Manifest, names: Collection[str]) -> Iterator[str]:
    """Compare the files and cells of the manifest with the names of the files."""
    present = {*names} - {MANIFEST}
    if manifest.method in REFERENCES:
        yield f"method: {manifest.method} is the name of a reference row"
    for name in sorted(manifest.files.keys() - present):
        yield f"files: {short(name)} does not exist"
    for name in sorted(present - manifest.files.keys()):
        yield f"files: {name} exists but is not listed"
    for cell, count in Counter(manifest.cells).items():
        if count > 1:
            yield f"cells: {short(cell)} is listed {count} times"
    listed = {f"records/{cell}.json" for cell in manifest.cells}
    recorded = {name for name in present if name.startswith("records/")}
    for name in sorted(listed - recorded):
        yield f"cells: listed, but {short(name)} does not exist"
    for name in sorted(recorded - listed):
        yield f"cells: {name} exists but is not listed"
