"""Atomic writes of files, and checksums of a folder."""

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
"""Pattern of the names of files that are being written."""
CHECKSUMS = "SHA256SUMS"


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path; rename it to ``path`` when the block ends.

    A reader sees the old file or the new one. If the block raises, the old one is unchanged.
    """
    with _unfinished(path) as unfinished:
        yield unfinished
        unfinished.replace(path)


@contextlib.contextmanager
def _unfinished(path: Path) -> Iterator[Path]:
    """Yield a name next to ``path`` that no other writer has; remove what is left of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex}.unfinished")
    try:
        yield unfinished
    except OSError as error:
        if error.filename == str(unfinished):
            error.filename = str(path)  # the name that the user knows
        raise
    finally:
        with contextlib.suppress(OSError):  # not there, or the file system is read-only
            unfinished.unlink()


def replace_file(path: Path, content: str | bytes) -> None:
    """Write a file atomically, replacing an existing one."""
    with replacing(path) as unfinished:
        unfinished.write_bytes(content.encode() if isinstance(content, str) else content)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object atomically, replacing an existing file."""
    replace_file(path, json.dumps(content, indent=2) + "\n")


def write_new(path: Path, content: str) -> bool:
    """Write a new file atomically and flush it to disk; never change an existing one.

    Returns:
        False if the file exists already.
    """
    with _unfinished(path) as unfinished:
        with unfinished.open("w", encoding="utf-8") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        try:
            path.hardlink_to(unfinished)
        except FileExistsError:
            return False
    return True


def sha256(*paths: Path) -> str:
    """Compute the SHA-256 of the concatenated files, as hexadecimal digits."""
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
    """Find the first file that is missing or differs from ``SHA256SUMS``.

    Returns:
        The file; None if all are intact or the folder has no checksums. Files that were added
        later are ignored.
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
