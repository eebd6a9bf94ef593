"""Size of each update, the share of it that rounding keeps, and the change of the scores."""

from __future__ import annotations

from collections.abc import Iterable

from ..reading.escaping import escape_markdown
from ..records.schema import METRICS, Survival
from ..records.survival import SurvivalReport
from ..standings.table import Row, precision
from .columns import COLUMNS, markdown_table, name, number_text, value_text

NAMES = {column.key: column.name for column in COLUMNS}
LABELS = ("Method", "Finetuning", "Precision")
NUMBERS = (
    "‖ΔW‖/‖W0‖",
    "Effective rank",
    "Kept share",
    "Noise",
    "In the zero bin",
    "Indices changed",
    "Scales changed",
    "max |ΔW|/s",
    *(f"{sign} {NAMES[metric]}" for metric in METRICS for sign in ("Δ", "way back")),
)
EXPLANATION = (
    "ΔW = Wu − W0 is the update of the target's weights W0, Q the quantizer. Kept share: "
    "⟨Q(Wu) − Q(W0), ΔW⟩ / ‖ΔW‖², 1 where rounding keeps the update on average and 0 where it "
    "removes it. Noise: ‖Q(Wu) − Q(W0) − ΔW‖ / ‖ΔW‖. In the zero bin: share of ‖ΔW‖² on weights "
    "that Q maps to zero in W0. Indices and scales changed, and the largest move in steps s of the "
    "grid, are of round-to-nearest only: they follow the size of the update and do not say whether "
    "it is kept. All of the first seed. The way back goes from the unlearned model to the target "
    "under the same quantizer; it exists where the target remembers more, by more than the error "
    "of the difference."
)


def row_survival(row: Row) -> Survival | None:
    """Totals of the first seed; None if the rounding was not measured."""
    survival = row.records[0].survival
    return survival if survival is not None and survival.rounding is not None else None


def numbers(row: Row, survival: Survival) -> list[str]:
    """Format the numbers of a row, in the order of `NUMBERS`.

    Raises:
        ValueError: The rounding was not measured.
    """
    update, rounding = survival.update, survival.rounding
    if rounding is None:
        raise ValueError(f"{row.precision}: the rounding was not measured")
    changes = []
    for metric in METRICS:
        way_back = row.values.get(f"way_back_{metric}")
        changes.append(value_text(row.values.get(f"recovery_{metric}"), signed=True))
        changes.append(share_text(way_back.mean if way_back else None))
    return [
        number_text(update.relative_norm, digits=4),
        number_text(update.effective_rank),
        number_text(rounding.kept_share, digits=2),
        number_text(rounding.noise, digits=2),
        share_text(rounding.zeroed_share),
        share_text(rounding.changed_indices, digits=1),
        share_text(rounding.changed_scales, digits=1),
        number_text(rounding.largest_move, digits=2),
        *changes,
    ]


def share_text(share: float | None, digits: int = 0) -> str:
    """Format a share as a percentage."""
    text = number_text(None if share is None else 100 * share, digits)
    return text if share is None else f"{text}%"


def survival_markdown(rows: Iterable[Row]) -> str:
    """Section with a line per checkpoint and quantizer; empty without measured updates."""
    lines = []
    for row in rows:
        survival = row_survival(row)
        if survival is not None:
            labels = (name(row), row.finetuning, precision(row))
            lines.append([*map(escape_markdown, labels), *numbers(row, survival)])
    if not lines:
        return ""
    header = [escape_markdown(title) for title in (*LABELS, *NUMBERS)]
    return "\n\n".join(
        [
            "## What rounding keeps of the update",
            markdown_table(header, lines, labels=3),
            escape_markdown(EXPLANATION),
        ]
    )


def kept_by_block(report: SurvivalReport, grid: str) -> dict[int, float]:
    """Average the kept share of the update over each transformer block.

    Args:
        report: Survival report of a checkpoint.
        grid: Name of the precision.

    Returns:
        Kept share by block number, which is the first number in the names of its modules. Layers
        are weighted by the squared norm of their update.
    """
    kept: dict[int, float] = {}
    squares: dict[int, float] = {}
    for module, layer in report.layers.items():
        blocks = [int(part) for part in module.split(".") if part.isdecimal() and len(part) < 6]
        rounding = layer.rounding.get(grid)
        if not blocks or rounding is None or rounding.kept_share is None:
            continue
        weight = layer.update.norm**2
        kept[blocks[0]] = kept.get(blocks[0], 0.0) + weight * rounding.kept_share
        squares[blocks[0]] = squares.get(blocks[0], 0.0) + weight
    return {block: kept[block] / squares[block] for block in sorted(kept) if squares[block]}
