"""Precisions of a board, which every submission to it must have."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

from ..reading.untrusted_files import short
from ..records.schema import Record
from ..standings.grouping import key_of
from .findings import Finding
from .manifest import CONFIG

Precisions = Mapping[str, set[tuple[str, str]]]
"""Name and quantizer digest of each precision, by the digest of a board."""


def board_precisions(records: Iterable[Record]) -> Precisions:
    """Collect the precisions at which the target model of each board was evaluated."""
    precisions: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for record in records:
        if record.cell.training.method == "target":
            key = key_of(record.cell)
            precisions[key.board].add((key.precision, key.quantizer))
    return dict(precisions)


def precision_findings(records: Iterable[Record], board: Precisions) -> Iterator[Finding]:
    """Report the precisions of a board that a submission lacks.

    A method cannot be ranked without them. A precision is identified by its name and its quantizer
    with parameters: another quantizer under the same name does not count.

    Args:
        records: Records of the submission.
        board: Precisions of the board, from `board_precisions`.
    """
    records = list(records)
    corpora = {key_of(r.cell).board: r.cell.training.corpus.name for r in records}
    for key, submitted in board_precisions(records).items():
        if key not in board:
            name = short(corpora[key])
            text = f"precisions: not checked, the board has no {name} with these settings"
            yield Finding(CONFIG, text, warning=True)
        submitted_names = {name for name, _ in submitted}
        for name, _ in sorted(board.get(key, set()) - submitted):
            state = "has a different quantizer of this name"
            state = state if name in submitted_names else "lacks it"
            text = f"precisions: the board has {short(name)}, the submission {state}"
            yield Finding(CONFIG, text)
