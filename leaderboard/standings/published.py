"""Results that others published: shown beside measured rows, never scored or ranked."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, ValidationError, model_validator

from ..errors import InputError
from ..records.schema import METRICS, Frozen

FOLDER = Path(__file__).parent.parent / "published"
SETTINGS = ("retain_weight", "learning_rate", "epochs", "rank", "alpha")

Name = Annotated[str, Field(min_length=1)]
Share = Annotated[float, Field(ge=0, le=100)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


class Reported(Frozen):
    """A row of somebody's table; a number it lacks is None.

    Attributes:
        source: publication and table, or repository, commit and file.
        precision: as it is called there.
        extraction_strength: a fifth metric that some report, × 100 as well.
        note: what to know about these numbers.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    source: Name
    corpus: Name
    method: Name
    finetuning: Literal["full", "lora", "none"]
    precision: Name
    verbmem: Share | None = None
    knowmem: Share | None = None
    privleak: Annotated[float, Field(ge=-100)] | None = None
    utility: Share | None = None
    extraction_strength: Annotated[float, Field(ge=0)] | None = None
    retain_weight: Annotated[float, Field(ge=0)] | None = None
    learning_rate: Positive | None = None
    epochs: Count | None = None
    rank: Count | None = None
    alpha: Positive | None = None
    note: str = ""

    @model_validator(mode="after")
    def _has_a_number(self) -> Reported:
        if all(getattr(self, metric) is None for metric in METRICS):
            raise ValueError(f"none of {', '.join(METRICS)} is given")
        return self

    @property
    def settings(self) -> str:
        """What the source says of the settings, in words."""
        known = {key: getattr(self, key) for key in SETTINGS}
        return ", ".join(
            f"{key.replace('_', ' ')} {value:g}"
            for key, value in known.items()
            if value is not None
        )


def read_published(corpora: Iterable[str], folder: Path = FOLDER) -> list[Reported]:
    """The published rows of some corpora, in the order of the files.

    Args:
        corpora: names of corpora.
        folder: with CSV files; a column left out or left empty is not known.

    Raises:
        InputError: a row is not valid or stands there twice; the message names file and line.
    """
    wanted = set(corpora)
    found: dict[Reported, str] = {}
    for path in sorted(folder.glob("*.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            for content in reader:
                where = f"{path}: line {reader.line_num}"
                row = _parse(content, where)
                if row in found:
                    raise InputError(f"{where}: the same row as {found[row]}")
                found[row] = where
    return [row for row in found if row.corpus in wanted]


def _parse(content: dict[str, str], where: str) -> Reported:
    try:
        return Reported.model_validate({name: text for name, text in content.items() if text})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = "".join(f"{part}: " for part in first["loc"])
        raise InputError(f"{where}: {place}{first['msg'].removeprefix('Value error, ')}") from error
