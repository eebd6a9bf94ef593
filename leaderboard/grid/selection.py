"""Some cells of a grid: ``--only`` and ``--exclude``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from ..errors import InputError
from ..records.schema import Cell
from .plan import PlannedTraining


def label(cell: Cell) -> str:
    """A record's name without its hash, which two settings of one method share."""
    return cell.stem.rpartition("--")[0]


def matches(cell: Cell, pattern: str) -> bool:
    """Whether a pattern fits the record's name, with or without its hash."""
    return any(fnmatchcase(name, pattern) for name in (label(cell), cell.stem))


def select(
    plan: list[PlannedTraining], only: Sequence[str] = (), exclude: Sequence[str] = ()
) -> list[PlannedTraining]:
    """The plan with those cells that match one of ``only``, if any, and none of ``exclude``.

    Patterns are a shell's, over names like ``demo--npo_gdr--lora--rtn-int4--seed0``, with or
    without the hash that ``--dry-run`` shows behind them.

    Raises:
        InputError: a pattern matches no cell.
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
