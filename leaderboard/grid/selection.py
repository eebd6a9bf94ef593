"""Selection of cells by name: ``--only`` and ``--exclude``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from ..errors import InputError
from ..records.schema import Cell
from .plan import PlannedTraining


def label(cell: Cell) -> str:
    """Name of a record without its hash; settings of one method share it."""
    return cell.stem.rpartition("--")[0]


def matches(cell: Cell, pattern: str) -> bool:
    """Match a shell pattern against a record's name, with or without its hash."""
    return any(fnmatchcase(name, pattern) for name in (label(cell), cell.stem))


def select(
    plan: list[PlannedTraining], only: Sequence[str] = (), exclude: Sequence[str] = ()
) -> list[PlannedTraining]:
    """Select cells by shell patterns over names like ``demo--npo_gdr--lora--rtn-int4--seed0``.

    The hash at the end, which ``--dry-run`` shows, may be left out.

    Args:
        plan: The plan of a grid.
        only: Keep cells that match one of these patterns; all cells if empty.
        exclude: Drop cells that match one of these patterns.

    Raises:
        InputError: A pattern matches no cell.
    """
    cells = [cell.cell for planned in plan for cell in planned.cells]
    for option, patterns in (("--only", only), ("--exclude", exclude)):
        for pattern in patterns:
            if not any(matches(cell, pattern) for cell in cells):
                raise InputError(
                    f"{option} '{pattern}' matches no cell; cells are named like "
                    f"{label(cells[-1])}, and * stands for anything"
                )

    def wanted(cell: Cell) -> bool:
        kept = not only or any(matches(cell, pattern) for pattern in only)
        return kept and not any(matches(cell, pattern) for pattern in exclude)

    return [
        replace(planned, cells=[cell for cell in planned.cells if wanted(cell.cell)])
        for planned in plan
    ]
