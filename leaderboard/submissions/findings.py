"""What the check of a submission has found."""

from __future__ import annotations

from dataclasses import dataclass

from .safe_read import harmless


@dataclass(frozen=True)
class Finding:
    """What is wrong with a submission, or, as a warning, worth a look.

    Attributes:
        place: the file.
        text: what, and where in the file.
    """

    place: str
    text: str
    warning: bool = False

    def __str__(self) -> str:
        what = "warning" if self.warning else "problem"
        return f"{what}: {harmless(self.place)}: {harmless(self.text)}"
