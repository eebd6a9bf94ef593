"""Packing of a submission: a method's records with all that others need to repeat them."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

import yaml
from pydantic import BaseModel

from harness_tasks.cache import build_once

from ..errors import InputError
from ..records.schema import Record
from ..records.store import read_records
from . import manifest as layout
from .card import submission_card
from .findings import Finding
from .manifest import FileEntry, Manifest, Package
from .submission import (
    LOCAL,
    Submission,
    is_local,
    resolved,
)
from .validation import validate


def pack(submission: Submission, run: Path, folder: Path) -> list[Finding]:
    """Write the submission: whole, valid and new, or not at all.

    Args:
        submission: the submission.
        run: folder of the run that holds its records.
        folder: folder to write; it must not exist.

    Returns:
        Warnings of its validation.

    Raises:
        InputError: there is something already, or the records are not fit for a submission.
    """
    refuse_existing(folder)
    records = list(_records(submission, run))
    contents = _contents(submission, records, run)
    manifest = Manifest(
        format=1,
        method=submission.method,
        cells=sorted(record.cell.stem for record in records),
        files={
            name: FileEntry(sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))
            for name, content in sorted(contents.items())
        },
    )
    contents[layout.MANIFEST] = _json(manifest)
    warnings: list[Finding] = []

    def write(temporary: Path) -> None:
        for name, content in contents.items():
            path = temporary / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
        verdict = validate(temporary)
        if verdict.problems:
            raise InputError(f"not fit for a submission: {verdict.problems[0]}")
        warnings.extend(verdict.findings)

    build_once(folder, write)
    return warnings


def refuse_existing(folder: Path) -> None:
    """Never overwrite a submission.

    Raises:
        InputError: there is something already.
    """
    if folder.exists() or folder.is_symlink():
        raise InputError(f"{folder} is there already; choose another --out, or move it away")


def failures(submission: Submission, run: Path) -> list[str]:
    """Describe each cell that failed in a line; a submission has a result for every cell.

    Raises:
        InputError: a cell has no record.
    """
    return [
        f"{record.cell.stem} failed: {record.reason}"
        for record in _records(submission, run)
        if record.status == "failed"
    ]


def _records(submission: Submission, run: Path) -> Iterator[Record]:
    """Read the records of every cell that belongs to the submission."""
    there = {record.cell.stem: record for record in read_records(run)}
    for planned in submission.plan:
        for cell in planned.cells:
            if cell.cell.stem not in there:
                raise InputError(f"{run}: no record of {cell.cell.stem}; run the grid to its end")
            yield there[cell.cell.stem]


def _contents(submission: Submission, records: list[Record], run: Path) -> dict[str, bytes]:
    """Make every file but the manifest."""
    contents = {f"source/{path.name}": path.read_bytes() for path in submission.plugins}
    source = f"Its code is in {', '.join(contents)}."
    if submission.owner != LOCAL:
        package = Package(distribution=submission.owner, version=version(submission.owner))
        contents[layout.PACKAGE] = _json(package)
        source = f"Its code is in the package {package.distribution} {package.version}."
    plugins = [name for name in contents if name != layout.PACKAGE]
    config = resolved(submission)
    contents[layout.CONFIG] = _yaml(config)
    searched = []
    if submission.search:
        search = submission.search.model_copy(update={"corpora": config.corpora})
        contents[layout.SEARCH] = _yaml(search)
        searched = [e for e in submission.search.search if e.method == submission.method]
    unlearner = next(p.recipe.unlearner for p in submission.plan if p.recipe)
    card = submission_card(
        method=submission.method,
        documentation=inspect.getdoc(type(unlearner)) or "",
        source=source,
        plugins=plugins,
        entries=config.unlearn,
        searched=searched,
        local=_local_folders(records),
        records=records,
    )
    contents[layout.README] = card.encode()
    for record in records:
        stem = record.cell.stem
        contents[f"records/{stem}.json"] = (run / "records" / f"{stem}.json").read_bytes()
        if record.samples:
            answers = run / "samples" / f"{stem}.jsonl.gz"
            contents[f"samples/{stem}.jsonl.gz"] = answers.read_bytes()
    return contents


def _local_folders(records: Sequence[Record]) -> list[str]:
    """Names of the folders of text and models that the records are about."""
    trainings = [record.cell.training for record in records]
    found = [t.corpus.name for t in trainings if t.corpus.source == "folder"]
    models = [model for t in trainings for model in (t.model, t.tokenizer) if model]
    return list(dict.fromkeys(found + [model.name for model in models if is_local(model)]))


def _json(model: BaseModel) -> bytes:
    return (model.model_dump_json(indent=1) + "\n").encode()


def _yaml(model: BaseModel) -> bytes:
    content = model.model_dump(mode="json")
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True).encode()
