"""Layout of a submission.

``submissions/<method>/``::

    manifest.json            format, method, listed cells, SHA-256 and size of every file
    README.md                summary for readers
    config.yaml              grid with every setting resolved
    search.yaml              sweep that chose the settings, if there was one
    records/<cell>.json      records of the method and of the target and retrain models
    samples/<cell>.jsonl.gz  all answers of a record
    source/<file>.py         source of the method, or
    source/package.json      distribution and version that provide it
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field

from ..records.schema import SHA256, Frozen

MANIFEST, README, CONFIG, SEARCH = "manifest.json", "README.md", "config.yaml", "search.yaml"
PACKAGE = "source/package.json"
METHOD_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}")
"""Also required of corpora and precisions: their names are part of record file names."""

_NAME = FILE_NAME.pattern
_MAX_BYTES = {
    re.compile(r"manifest\.json"): 2**23,
    re.compile(r"README\.md"): 2**22,
    re.compile(r"(config|search)\.yaml"): 2**18,
    re.compile(rf"records/{_NAME}\.json"): 2**22,
    re.compile(rf"samples/{_NAME}\.jsonl\.gz"): 2**24,
    re.compile(rf"source/{_NAME}\.py"): 2**20,
    re.compile(r"source/package\.json"): 2**12,
}
FOLDERS = ("records/", "samples/", "source/")
MAX_FILES = 20_000
MAX_TOTAL_BYTES = 2**30


class FileEntry(Frozen):
    """Checksum and size of a file of the submission."""

    sha256: str = Field(pattern=SHA256)
    """SHA-256 of the content, in hexadecimal digits."""
    bytes: int = Field(ge=0)
    """Size, bytes."""


class Manifest(Frozen):
    """Content of ``manifest.json``."""

    format: Literal[1]
    """Version of the folder's layout."""
    method: Annotated[str, Field(pattern=f"^{METHOD_NAME.pattern}$")]
    """Name of the submitted method."""
    cells: list[str] = Field(min_length=1, max_length=MAX_FILES)
    """Names of the records, without their ending."""
    files: dict[str, FileEntry] = Field(max_length=MAX_FILES)
    """Every file except the manifest itself, by its path in the folder."""


class Package(Frozen):
    """Installed distribution that provides the method."""

    distribution: str = Field(pattern="^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=100)
    """Name of the distribution."""
    version: str = Field(pattern="^[A-Za-z0-9][A-Za-z0-9_.!+-]*$", max_length=100)
    """Version of the distribution."""


def max_bytes(path: str) -> int | None:
    """Size limit of a file of the submission, bytes; None if the path is not allowed."""
    return next((size for pattern, size in _MAX_BYTES.items() if pattern.fullmatch(path)), None)
