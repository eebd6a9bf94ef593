"""Findings of the validation of a submission."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..reading.untrusted_files import to_ascii_line
from ..records.schema import Record

Records = Mapping[str, Record]
"""Records by the path of their file."""


@dataclass(frozen=True)
class Finding:
    """Problem with a submission, or a warning about it.

    Attributes:
        place: Path of the file in the submission.
        text: Setting or field in the file, and the problem with it.
        warning: The submission is valid despite this finding.
    """

    place: str
    text: str
    warning: bool = False

    def __str__(self) -> str:
        severity = "warning" if self.warning else "problem"
        return f"{severity}: {to_ascii_line(self.place)}: {to_ascii_line(self.text)}"
