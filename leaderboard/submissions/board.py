"""The precisions of a board, which every submission to it must have."""

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
    """Precisions at which the target model of each board was evaluated."""
    found: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for record in records:
        if record.cell.training.method == "target":
            key = key_of(record.cell)
            found[key.board].add((key.precision, key.quantizer))
    return dict(found)


def precision_findings(records: Iterable[Record], board: Precisions) -> Iterator[Finding]:
    """Name the precisions of a board that a submission lacks.

    A method without one of them cannot be ranked among the others. A precision is a name and a
    quantizer with its parameters: another quantizer under the same name does not count.

    Args:
        records: of the submission.
        board: precisions of the board, as `board_precisions` gives them.
    """
    records = list(records)
    corpora = {key_of(r.cell).board: r.cell.training.corpus.name for r in records}
    for key, own in board_precisions(records).items():
        if key not in board:
            name = short(corpora[key])
            text = f"precisions: not checked, the board has no {name} evaluated in this way"
            yield Finding(CONFIG, text, warning=True)
        own_names = {name for name, _ in own}
        for name, _ in sorted(board.get(key, set()) - own):
            lack = "has another quantizer of this name" if name in own_names else "lacks it"
            yield Finding(CONFIG, f"precisions: the board has {short(name)}, the submission {lack}")
