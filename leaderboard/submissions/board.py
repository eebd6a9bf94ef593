"""The precisions of a board, which every submission to it must have."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

from ..groups import key_of
from ..records.schema import Record
from .findings import Finding
from .manifest import CONFIG

Precisions = Mapping[str, Mapping[tuple[str, str], str]]
"""By board: names of the precisions by name and digest of the quantizer."""


def board_precisions(records: Iterable[Record]) -> Precisions:
    """Precisions at which the target model of each board was evaluated."""
    found: dict[str, dict[tuple[str, str], str]] = defaultdict(dict)
    for record in records:
        if record.cell.training.method == "target":
            key = key_of(record.cell)
            found[key.board][key.precision, key.quantizer] = record.cell.precision
    return found


def precision_findings(records: Iterable[Record], board: Precisions) -> Iterator[Finding]:
    """Precisions of a board that a submission lacks.

    A method evaluated at fewer precisions cannot be ranked among the others.

    Args:
        records: of the submission.
        board: precisions of the board, as ``board_precisions`` gives them.
    """
    own = board_precisions(records)
    if not own.keys() & board.keys():
        text = "precisions: not checked, its text or evaluation is none of the board's"
        yield Finding(CONFIG, text, warning=True)
    for key in own.keys() & board.keys():
        for precision, name in board[key].items():
            if precision not in own[key]:
                yield Finding(CONFIG, f"precisions: the board has {name}, the submission lacks it")
