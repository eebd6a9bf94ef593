"""Checksums of a folder's files, so that a file damaged later is not taken for what was saved."""

from __future__ import annotations

import hashlib
from pathlib import Path

CHECKSUMS = "SHA256SUMS"


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
    """The first file that is missing or not as ``SHA256SUMS`` has it; None if all are.

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


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
