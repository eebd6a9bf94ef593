"""Published results of others, shown for comparison and never scored or ranked."""

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
    """A row of a published table; missing numbers are None.

    Attributes:
        source: Publication and table, or repository, commit and file.
        corpus: Name of the corpus.
        method: Name of the method in the source.
        finetuning: ``full``, ``lora``, or ``none`` for a reference.
        precision: Name of the precision in the source.
        verbmem: VerbMem × 100.
        knowmem: KnowMem × 100.
        privleak: PrivLeak × 100.
        utility: Utility × 100.
        extraction_strength: Extraction strength × 100, reported by some sources.
        retain_weight: Weight of the retain loss.
        learning_rate: Learning rate.
        epochs: Number of epochs.
        rank: Rank of LoRA.
        alpha: Scaling factor of LoRA.
        note: Remark on the numbers; may be empty.
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
        """Settings that the source reports, in words."""
        return ", ".join(
            f"{key.replace('_', ' ')} {value:g}"
            for key in SETTINGS
            if (value := getattr(self, key)) is not None
        )


def read_published(corpora: Iterable[str], folder: Path = FOLDER) -> list[Reported]:
    """Read the published rows of corpora, in the order of the files.

    Args:
        corpora: Names of corpora.
        folder: Folder of CSV files; missing columns and empty cells mean unknown.

    Raises:
        InputError: A row is not valid or a duplicate; the message names file and line.
    """
    names = set(corpora)
    lines: dict[Reported, str] = {}
    for path in sorted(folder.glob("*.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            for content in reader:
                line = f"{path}: line {reader.line_num}"
                row = _parse(content, line)
                if row in lines:
                    raise InputError(f"{line}: the same row as {lines[row]}")
                lines[row] = line
    return [row for row in lines if row.corpus in names]


def _parse(content: dict[str, str], line: str) -> Reported:
    try:
        return Reported.model_validate({name: text for name, text in content.items() if text})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        column = "".join(f"{part}: " for part in first["loc"])
        raise InputError(f"{line}: {column}{first['msg'].removeprefix('Value error, ')}") from error
