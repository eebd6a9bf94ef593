"""Layout of a submission.

``submissions/<method>/``::

    manifest.json            format, method, the promised cells, SHA-256 and size of every file
    README.md                for people
    config.yaml              the grid with every setting resolved
    search.yaml              the sweep that the settings come from, where there was one
    records/<cell>.json      of the method and of the target and retrain models
    samples/<cell>.jsonl.gz  every answer
    source/<file>.py         the method, or
    source/package.json      the distribution and version that hold it
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field

from ..records.schema import Frozen

MANIFEST, README, CONFIG, SEARCH = "manifest.json", "README.md", "config.yaml", "search.yaml"
PACKAGE = "source/package.json"
METHOD_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}")
"""Also of corpora and precisions, which record files are named after."""

_NAME = FILE_NAME.pattern
MOST_BYTES = {
    re.compile(r"manifest\.json"): 2**23,
    re.compile(r"README\.md"): 2**22,
    re.compile(r"(config|search)\.yaml"): 2**18,
    re.compile(rf"records/{_NAME}\.json"): 2**22,
    re.compile(rf"samples/{_NAME}\.jsonl\.gz"): 2**24,
    re.compile(rf"source/{_NAME}\.py"): 2**20,
    re.compile(r"source/package\.json"): 2**12,
}
"""Largest size of every file that a submission may hold, by its path."""
FOLDERS = ("records/", "samples/", "source/")
MOST_FILES = 20_000
MOST_TOTAL = 2**30


class FileEntry(Frozen):
    """Checksum and size of a file of the submission."""

    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    bytes: int = Field(ge=0)


class Manifest(Frozen):
    """Content of ``manifest.json``.

    Attributes:
        format: version of the folder's layout.
        method: the submitted method.
        cells: stems of the promised records.
        files: every file but the manifest itself, by its path in the folder.
    """

    format: Literal[1]
    method: Annotated[str, Field(pattern=f"^{METHOD_NAME.pattern}$")]
    cells: list[str] = Field(min_length=1, max_length=MOST_FILES)
    files: dict[str, FileEntry] = Field(max_length=MOST_FILES)


class Package(Frozen):
    """Installed distribution that holds the method."""

    distribution: str = Field(pattern="^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=100)
    version: str = Field(pattern="^[A-Za-z0-9][A-Za-z0-9_.!+-]*$", max_length=100)


def most_bytes(path: str) -> int | None:
    """Largest size of a file of the submission, bytes; None for one that has no place there."""
    return next((most for pattern, most in MOST_BYTES.items() if pattern.fullmatch(path)), None)
