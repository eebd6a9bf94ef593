"""Packing of a submission: a method's records with everything needed to repeat them."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import yaml
from pydantic import BaseModel

from harness_tasks.cache import build_once

from ..errors import InputError
from ..records.schema import Record
from ..records.store import read_records
from .card import submission_card
from .findings import Finding
from .manifest import CONFIG, MANIFEST, PACKAGE, README, SEARCH, FileEntry, Manifest, Package
from .submission import LOCAL, Submission, is_local, resolved
from .validation import validate


def pack(submission: Submission, run: Path, folder: Path) -> list[Finding]:
    """Write a submission atomically: the folder appears only if it is complete and valid.

    Args:
        submission: The submission.
        run: Folder of the run that holds its records.
        folder: Folder to write; it must not exist.

    Returns:
        Warnings of its validation.

    Raises:
        InputError: The folder exists, a record is missing, or the submission is not valid.
    """
    refuse_existing(folder)
    records = _records(submission, run)
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
    contents[MANIFEST] = _json(manifest)
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
    """Refuse to overwrite a submission.

    Raises:
        InputError: The folder exists.
    """
    if folder.exists() or folder.is_symlink():
        raise InputError(f"{folder} already exists; choose another --out, or move it away")


def failures(submission: Submission, run: Path) -> list[str]:
    """Describe each failed cell in a line; a submission needs a result for every cell.

    Args:
        submission: The submission.
        run: Folder of the run that holds its records.

    Raises:
        InputError: A cell has no record.
    """
    return [
        f"{record.cell.stem} failed: {record.reason}"
        for record in _records(submission, run)
        if record.status == "failed"
    ]


def _records(submission: Submission, run: Path) -> list[Record]:
    """Select the records of a submission's cells, in the order of its plan."""
    records = {record.cell.stem: record for record in read_records(run)}
    stems = [cell.cell.stem for planned in submission.plan for cell in planned.cells]
    for stem in stems:
        if stem not in records:
            raise InputError(f"{run}: no record of {stem}; run the grid to its end")
    return [records[stem] for stem in stems]


def _contents(submission: Submission, records: Sequence[Record], run: Path) -> dict[str, bytes]:
    """Build the content of every file except the manifest, by its path."""
    contents = {f"source/{path.name}": path.read_bytes() for path in submission.plugins}
    plugins = list(contents)
    source = f"Its code is in {', '.join(plugins)}."
    if submission.owner != LOCAL:
        package = Package(distribution=submission.owner, version=version(submission.owner))
        contents[PACKAGE] = _json(package)
        source = f"Its code is in the package {package.distribution} {package.version}."
    config = resolved(submission)
    contents[CONFIG] = _yaml(config)
    searched = []
    if submission.search:
        contents[SEARCH] = _yaml(submission.search.model_copy(update={"corpora": config.corpora}))
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
    contents[README] = card.encode()
    for record in records:
        names = [f"records/{record.cell.stem}.json"]
        if record.samples:
            names.append(f"samples/{record.cell.stem}.jsonl.gz")
        contents |= {name: (run / name).read_bytes() for name in names}
    return contents


def _local_folders(records: Sequence[Record]) -> list[str]:
    """List the names of the local folders of text and models that the records refer to."""
    trainings = [record.cell.training for record in records]
    corpora = [t.corpus.name for t in trainings if t.corpus.source == "folder"]
    models = [model for t in trainings for model in (t.model, t.tokenizer) if model]
    return list(dict.fromkeys(corpora + [model.name for model in models if is_local(model)]))


def _json(model: BaseModel) -> bytes:
    return (model.model_dump_json(indent=1) + "\n").encode()


def _yaml(model: BaseModel) -> bytes:
    content = model.model_dump(mode="json")
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True).encode()
