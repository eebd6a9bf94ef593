"""Some cells of a grid: ``--only`` and ``--exclude``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from .cell import Cell
from .errors import InputError
from .plan import PlannedTraining


def label(cell: Cell) -> str:
    """What patterns are matched against: the record's name without its hash."""
    return cell.stem.rpartition("--")[0]


def select(
    plan: list[PlannedTraining], only: Sequence[str] = (), exclude: Sequence[str] = ()
) -> list[PlannedTraining]:
    """The plan with those cells that match one of ``only``, if any, and none of ``exclude``.

    Patterns are a shell's, over names like ``demo--npo_gdr--lora--rtn-int4--seed0``.

    Raises:
        InputError: a pattern matches no cell.
    """
    labels = [label(cell.cell) for planned in plan for cell in planned.cells]
    for option, patterns in (("--only", only), ("--exclude", exclude)):
        for pattern in patterns:
            if not any(fnmatchcase(name, pattern) for name in labels):
                raise InputError(
                    f"{option} '{pattern}' matches no cell; cells are named like {labels[-1]}, "
                    "and * stands for anything"
                )

    def wanted(name: str) -> bool:
        kept = not only or any(fnmatchcase(name, pattern) for pattern in only)
        return kept and not any(fnmatchcase(name, pattern) for pattern in exclude)

    return [
        replace(planned, cells=[cell for cell in planned.cells if wanted(label(cell.cell))])
        for planned in plan
    ]
