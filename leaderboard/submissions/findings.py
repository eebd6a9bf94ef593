"""Findings of the validation of a submission."""

from __future__ import annotations

from dataclasses import dataclass

from ..reading.untrusted_files import harmless


@dataclass(frozen=True)
class Finding:
    """Problem with a submission, or a warning.

    Attributes:
        place: the file.
        text: the place in the file, and the problem.
        warning: True where the submission is valid in spite of it.
    """

    place: str
    text: str
    warning: bool = False

    def __str__(self) -> str:
        what = "warning" if self.warning else "problem"
        return f"{what}: {harmless(self.place)}: {harmless(self.text)}"
