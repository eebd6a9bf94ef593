r"""The table for a paper, laid out like Table II of arXiv 2602.13151.

A line per method, finetuning and precision, with the metrics of all boards in columns and the
references at the top. Read it with ``\input``; it needs the package ``booktabs``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from ..reading.escaping import escape_latex
from ..records.schema import REFERENCES
from ..standings.published import Reported
from ..standings.table import Board, Row, by_board, precision
from .columns import (
    METRIC_COLUMNS,
    MISSING,
    Column,
    error_text,
    finetuning,
    method,
    number_text,
)

ARROWS = {"lower": r" $\downarrow$", "higher": r" $\uparrow$", "zero": r" $\to$0", None: ""}
CAPTION = (
    r"Unlearning before and after quantization: scores of MUSE $\times$ 100, $\pm$ the standard "
    r"error over documents and seeds. "
    r"*: did not forget. Bold: the best of its corpus and precision among methods that forgot."
)
LABELS = ("Method", "Finetuning", "Precision")

Line = tuple[str, str, str]
"""Labels of a line: method, finetuning, precision."""
T = TypeVar("T")


def latex(rows: list[Row], reported: Sequence[Reported] = ()) -> str:
    """Build ``table.tex``.

    Args:
        rows: The table.
        reported: Published rows, shown below the measured ones by source. Rows of a published
            hyperparameter search are left out.
    """
    boards = by_board(rows)
    width = len(LABELS) + len(METRIC_COLUMNS) * len(boards)
    best = {board: _best(members) for board, members in boards.items()}
    lines = [
        r"% \usepackage{booktabs}",
        r"\begin{table*}",
        r"\centering",
        rf"\caption{{{CAPTION}}}",
        r"\label{tab:unlearning-quantization}",
        rf"\begin{{tabular}}{{lll{'r' * (width - len(LABELS))}}}",
        r"\toprule",
        *_header(boards),
    ]
    previous: tuple[str, str] | None = None
    for line, cells in _lines(rows).items():
        is_reference = line[0] in REFERENCES
        if previous is None or (previous[0] in REFERENCES and not is_reference):
            lines.append(r"\midrule")
        elif previous[0] != line[0] and not is_reference:
            lines.append(r"\addlinespace")
        numbers = [
            _number(cells.get(board), column, best[board])
            for board in boards
            for column in METRIC_COLUMNS
        ]
        lines.append(_line([*_unrepeated(line, previous), *numbers]))
        previous = line[:2]
    lines += _reported(boards, [row for row in reported if not row.settings], width)
    lines += [r"\bottomrule", r"\end{tabular}", r"\end{table*}"]
    return "\n".join(lines) + "\n"


def _header(boards: Iterable[Board]) -> list[str]:
    span = len(METRIC_COLUMNS)
    starts = [len(LABELS) + 1 + n * span for n, _ in enumerate(boards)]
    titles = [rf"\multicolumn{{{span}}}{{c}}{{{escape_latex(board.title)}}}" for board in boards]
    names = [column.name + ARROWS[column.better] for column in METRIC_COLUMNS]
    return [
        _line([*([""] * len(LABELS)), *titles]),
        " ".join(rf"\cmidrule(lr){{{start}-{start + span - 1}}}" for start in starts),
        _line([*LABELS, *names * len(starts)]),
    ]


def _lines(rows: Iterable[Row]) -> dict[Line, dict[Board, Row]]:
    """Rows of all boards by line, sorted by method, finetuning and falling bits."""
    lines: dict[Line, dict[Board, Row]] = {}
    for row in sorted(rows, key=lambda row: (-row.bits, row.precision)):
        line = (method(row), finetuning(row), precision(row))
        lines.setdefault(line, {})[row.board] = row
    return _grouped(lines, [method(row) for row in rows])


def _grouped(lines: Mapping[Line, T], methods: Iterable[str]) -> dict[Line, T]:
    """Sort lines: references, then methods in their order, full finetuning before LoRA."""
    order = list(dict.fromkeys(methods))
    order.sort(key=lambda name: name not in REFERENCES)
    return {
        line: lines[line]
        for line in sorted(lines, key=lambda line: (order.index(line[0]), line[1]))
    }


def _unrepeated(line: Line, previous: tuple[str, str] | None) -> list[str]:
    """Labels of a line, without a method and finetuning equal to those of the line above."""
    name, finetuned, quantized = ("---" if x == MISSING else escape_latex(x) for x in line)
    if previous == line[:2]:
        return ["", "", quantized]
    return ["" if previous and previous[0] == line[0] else name, finetuned, quantized]


def _best(rows: Iterable[Row]) -> set[tuple[str, str, str]]:
    """Precision, column and text of the bold numbers; a number without a rival is not bold."""
    best = set()
    candidates = [row for row in rows if row.forgot]
    for quantized in {precision(row) for row in candidates}:
        members = [row for row in candidates if precision(row) == quantized]
        for column in METRIC_COLUMNS:
            means = [value.mean for row in members if (value := row.values.get(column.key))]
            if len(means) > 1:
                best.add((quantized, column.key, number_text(_choose(means, column))))
    return best


def _choose(numbers: list[float], column: Column) -> float:
    if column.better == "zero":
        return min(numbers, key=abs)
    return max(numbers) if column.better == "higher" else min(numbers)


def _number(row: Row | None, column: Column, best: set[tuple[str, str, str]]) -> str:
    value = row.values.get(column.key) if row else None
    if row is None or value is None:
        return "---"
    plain = number_text(value.mean)
    text = _minus(plain)
    if row.forgot and (precision(row), column.key, plain) in best:
        text = rf"\textbf{{{text}}}"
    if error := error_text(value).strip():
        text += rf"{{\tiny\,{_error(error)}}}"
    if row.forgot is False and column is METRIC_COLUMNS[0]:
        text += r"\rlap{*}"
    return text


def _error(text: str) -> str:
    for sign, command in (("±", r"$\pm$\,"), ("≥", r"$\geq$\,"), ("≤", r"$\leq$\,")):
        text = text.replace(sign, command)
    return _minus(text)


def _minus(text: str) -> str:
    return text.replace("-", "$-$")


def _reported(boards: dict[Board, list[Row]], rows: Sequence[Reported], width: int) -> list[str]:
    """Lines of published rows, below a heading per source."""
    # the numbers go to the first board of their corpus
    positions = {board.corpus: n for n, board in reversed(list(enumerate(boards)))}
    sources: dict[str, dict[Line, list[str]]] = {}
    for row in rows:
        line = (row.method, row.finetuning if row.finetuning != "none" else MISSING, row.precision)
        empty = ["---"] * (width - len(LABELS))
        numbers = sources.setdefault(row.source, {}).setdefault(line, empty)
        start = positions[row.corpus] * len(METRIC_COLUMNS)
        for n, column in enumerate(METRIC_COLUMNS, start):
            text = number_text(getattr(row, column.key))
            numbers[n] = "---" if text == MISSING else _minus(text)
    lines = []
    for source, numbers_by_line in sources.items():
        title = rf"\multicolumn{{{width}}}{{l}}{{\emph{{Reported: {escape_latex(source)}}}}}"
        lines += [r"\midrule", _line([title])]
        previous: tuple[str, str] | None = None
        methods = [line[0] for line in numbers_by_line]
        for line, numbers in _grouped(numbers_by_line, methods).items():
            lines.append(_line([*_unrepeated(line, previous), *numbers]))
            previous = line[:2]
    return lines


def _line(cells: Iterable[str]) -> str:
    return " & ".join(cells) + r" \\"
