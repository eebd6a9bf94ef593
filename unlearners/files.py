"""Files that are written whole or not at all, and checksums of a folder's files."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

UNFINISHED = ".*.unfinished"
"""Pattern of the names that files have while they are written."""
CHECKSUMS = "SHA256SUMS"


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a name to write a file under; rename it to ``path`` when the block ends.

    A reader sees the old file or the new one. A block that raises leaves the old one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex}.unfinished")
    try:
        yield unfinished
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def replace_file(path: Path, content: str | bytes) -> None:
    """Write a file, in place of the one that is there."""
    with replacing(path) as unfinished:
        unfinished.write_bytes(content.encode() if isinstance(content, str) else content)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object, in place of the one that is there."""
    replace_file(path, json.dumps(content, indent=2) + "\n")


def write_new(path: Path, content: str) -> bool:
    """Write a file that is not there yet, flushed to the disk; leave one that is there alone.

    Returns:
        False where the file exists already.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex}.unfinished")
    try:
        with unfinished.open("w", encoding="utf-8") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        path.hardlink_to(unfinished)
    except FileExistsError:
        return False
    finally:
        unfinished.unlink(missing_ok=True)
    return True


def sha256(*paths: Path) -> str:
    """Compute the SHA-256 of files, one after the other, as hexadecimal digits."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()


def write_checksums(folder: Path) -> None:
    """Write ``SHA256SUMS`` of all files in a folder, which ``sha256sum --check`` reads too."""
    sums = folder / CHECKSUMS
    names = sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and path != sums
    )
    sums.write_text("".join(f"{sha256(folder / name)}  {name}\n" for name in names))


def damaged_file(folder: Path) -> Path | None:
    """Find the first file that is missing or differs from ``SHA256SUMS``; None if all are whole.

    A folder without checksums is taken as it is; files that were added later do not matter.
    """
    try:
        lines = (folder / CHECKSUMS).read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return None
    for line in lines:
        digest, _, name = line.partition("  ")
        path = folder / name
        if not name or not path.is_file() or sha256(path) != digest:
            return path
    return None
