"""Did the update cross the grid, and did the text come back? Both beside each other."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ValidationError

from ..cell import METRICS
from ..errors import InputError
from ..table import Row
from .layout import COLUMNS, markdown_table, name, number_text, place, precision, value_text
from .text import escape_markdown

FEW, MANY = 0.25, 0.5
BACK = 0.25
NAMES = {column.key: column.name for column in COLUMNS}
LABELS = ("Method", "Finetuning", "Grid")
NUMBERS = (
    "‖ΔW‖/‖W0‖",
    "Effective rank",
    "Indices changed",
    "Scales changed",
    "max |ΔW|/s",
    *(f"{sign} {NAMES[metric]}" for metric in METRICS for sign in ("Δ", "way back")),
)
EXPLANATION = (
    "ΔW is what unlearning did to the quantized layers' weights W0. An index is a weight's place "
    "on the quantizer's grid, s the grid's step. The way back goes from the unlearned model to the "
    "target under the same quantizer."
)

Number = Annotated[
    float | None,
    BeforeValidator(lambda x: None if isinstance(x, float) and not math.isfinite(x) else x),
]
"""One that is not finite is missing."""


class Crossing(BaseModel):
    """How an update moved weights over one grid (`quantizers.survival.Crossing`)."""

    changed_indices: Number
    changed_scales: Number
    largest_move: Number


class Survival(BaseModel):
    """An update and what grids make of it (`quantizers.survival.Survival`)."""

    parameters: int
    relative_norm: Number
    effective_rank: Number
    crossings: dict[str, Crossing]


class SurvivalReport(BaseModel):
    """What a record says of its checkpoint's update (`quantizers.survival.SurvivalReport`)."""

    total: Survival
    layers: dict[str, Survival]


def read_survival(row: Row) -> SurvivalReport | None:
    """The report of a row's first seed; None where its precision's grid was not measured.

    Raises:
        InputError: the record's report lacks something.
    """
    cell, content = row.records[0].cell, row.records[0].survival
    if content is None:
        return None
    try:
        report = SurvivalReport.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, ("survival", *first["loc"])))
        raise InputError(f"record {cell.stem}: {where}: {first['msg']}") from error
    return report if row.precision in report.total.crossings else None


def numbers(row: Row, report: SurvivalReport) -> list[str]:
    """The numbers of a row, in the order of `NUMBERS`."""
    total = report.total
    crossing = total.crossings[row.precision]
    behaviour = []
    for metric in METRICS:
        recovery = row.values.get(f"recovery_{metric}")
        back = row.values.get(f"way_back_{metric}")
        behaviour.append(value_text(recovery, signed=True, with_error=False))
        behaviour.append(share_text(back.mean if back else None))
    return [
        number_text(total.relative_norm, digits=4),
        number_text(total.effective_rank),
        share_text(crossing.changed_indices, digits=1),
        share_text(crossing.changed_scales, digits=1),
        number_text(crossing.largest_move, digits=2),
        *behaviour,
    ]


def share_text(share: float | None, digits: int = 0) -> str:
    """A share as a percentage."""
    text = number_text(None if share is None else 100 * share, digits)
    return text if share is None else f"{text}%"


def survival_markdown(rows: Iterable[Row]) -> str:
    """A section with one line per checkpoint and round-to-nearest grid; empty without any."""
    lines, remarks = [], []
    for row in rows:
        report = read_survival(row)
        if report is None:
            continue
        labels = (name(row), row.finetuning, precision(row))
        lines.append([*map(escape_markdown, labels), *numbers(row, report)])
        if remark := _remark(row, report.total.crossings[row.precision].changed_indices):
            remarks.append(f"- {escape_markdown(remark)}")
    if not lines:
        return ""
    parts = [
        "## What of the update survives rounding",
        markdown_table([escape_markdown(title) for title in (*LABELS, *NUMBERS)], lines, labels=3),
        EXPLANATION,
    ]
    if remarks:
        parts.append("\n".join(remarks))
    return "\n\n".join(parts)


def _remark(row: Row, changed: float | None) -> str | None:
    """Says where index changes and behaviour tell different stories."""
    back = row.values.get("way_back_verbmem")
    if changed is None or back is None or row.forgot is None:
        return None
    what = f"{place(row)}: {changed:.0%} of the indices changed"
    came = f"VerMem went {back.mean:.0%} of the way back"
    if changed < FEW and back.mean < BACK and row.forgot:
        return f"{what}, yet it stayed unlearned ({came}): few moves were enough."
    if changed > MANY and back.mean >= BACK:
        return f"{what}, and yet text came back ({came}): the moves did not hold it."
    return None


def share_by_block(report: SurvivalReport, grid: str) -> dict[int, float]:
    """Share of changed indices per transformer block: the number in its modules' names."""
    changed: dict[int, float] = {}
    weights: dict[int, int] = {}
    for module, layer in report.layers.items():
        blocks = [int(part) for part in module.split(".") if part.isdecimal() and len(part) < 6]
        crossing = layer.crossings.get(grid)
        if not blocks or crossing is None or crossing.changed_indices is None:
            continue
        share = crossing.changed_indices * layer.parameters
        changed[blocks[0]] = changed.get(blocks[0], 0.0) + share
        weights[blocks[0]] = weights.get(blocks[0], 0) + layer.parameters
    return {block: changed[block] / weights[block] for block in sorted(changed) if weights[block]}
