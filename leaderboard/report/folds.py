"""MUSE's last two ways: utility and forgetting over growing and over successive forget sets."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from statistics import fmean

from ..cell import Record
from ..table import settings_digest
from .layout import MISSING, escape_markdown, markdown_line

TITLES = {
    "scal": "Scalability: four growing forget sets, each unlearned from the target",
    "sust": "Sustainability: four forget sets unlearned one after another",
}
FOLDS = (1, 2, 3, 4)


def folds_markdown(records: Iterable[Record]) -> str:
    """A section per suite: utility, and what is remembered of the fold; empty without any.

    Several seeds give their mean; a fold that one of them lacks has no number.
    """
    numbers: dict[tuple[str, ...], dict[tuple[str, int], list[float | None]]] = defaultdict(dict)
    for record in records:
        t = record.cell.training
        if t.fold is None:
            continue
        corpus = t.corpus.model_copy(update={"forget": ""})
        settings = settings_digest(t.model_copy(update={"fold": None, "corpus": corpus}))
        row = (t.fold.suite, t.corpus.name, t.method, t.finetuning, record.cell.precision, settings)
        for metric in ("utility", "exact_memorization"):
            found = record.metrics.get(metric)
            cells = numbers[row]
            cells.setdefault((metric, t.fold.number), []).append(found.value if found else None)
    parts = []
    for suite, title in TITLES.items():
        rows = {key: cells for key, cells in numbers.items() if key[0] == suite}
        if not rows:
            continue
        header = ["Corpus", "Method", "Finetuning", "Precision"]
        header += [f"Utility {fold}" for fold in FOLDS] + [f"Memorized {fold}" for fold in FOLDS]
        lines = [markdown_line(header), markdown_line(["---"] * 4 + ["---:"] * 2 * len(FOLDS))]
        for key, cells in sorted(rows.items()):
            values = [
                _mean(cells.get((metric, fold), []))
                for metric in ("utility", "exact_memorization")
                for fold in FOLDS
            ]
            lines.append(markdown_line([*map(escape_markdown, key[1:5]), *values]))
        parts += [f"## {title}", "\n".join(lines)]
    if parts:
        parts.append(
            "Utility after each fold; memorized: share of the tokens of the fold's own forget set "
            "that the model predicts right, × 100."
        )
    return "\n\n".join(parts)


def _mean(values: list[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{fmean(known):.1f}" if known and len(known) == len(values) else MISSING
