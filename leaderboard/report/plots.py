"""Plots of the table as SVG: forgetting against utility, recovery, kept share by layer.

A method has a colour and a shape. Full finetuning is dashed and hollow, LoRA solid and filled.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import matplotlib
from matplotlib.figure import Figure, FigureBase
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter

from ..reading.escaping import one_line
from ..records.survival import SurvivalReport
from ..standings.estimates import Z
from ..standings.table import Board, Row, by_board, precision, ranking_precisions
from .survival import kept_by_block

TITLES = {
    "forgetting": "Forgetting against utility, before and after quantization",
    "recovery": "Points gained by quantization",
    "survival": "Kept share of the update, by layer",
}
"""Title of each plot by the name of its file."""
STYLE: Any = {  # RcParams has a key type of its own
    "svg.fonttype": "none",
    "svg.hashsalt": "lm-eval-muse",
    "text.parse_math": False,  # names from records are text, also with a $
    "font.size": 8.0,
    "font.sans-serif": ["DejaVu Sans"],
    "axes.titlesize": 8.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.edgecolor": "#8c959f",
    "grid.color": "#e3e7ec",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.3,
    "lines.markersize": 4.5,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "legend.columnspacing": 1.2,
}
NEUTRAL = "#59636e"
COLOURS = "#0b6cb0 #c2410c #0f7b5c #a21a6b #8a6100 #5b4bc4 #0e7490 #59636e".split()
MARKERS = "os^Dvph"
WIDTH, HEIGHT = 4.8, 3.1
"""Size of a plot without its legend, in inches."""
CHARACTERS, ENTRY = 80, 8
"""Characters in a line of the legend, and those that an entry takes in addition to its label."""
LONGEST_NAME, LONGEST_SETTING = 28, 60
LARGEST = 1e9
"""Larger numbers are drawn as this one."""

Point = tuple[float, float]


@dataclass(frozen=True)
class Checkpoint:
    """An unlearned model before and after quantization.

    Attributes:
        first: Its first row in the table.
        number: Index of its method, for colour and shape.
        before: The unquantized row; None without one.
        after: The row at the precision of the plot; None without one.
    """

    first: Row
    number: int
    before: Row | None
    after: Row | None

    @property
    def colour(self) -> str:
        """Colour of its method."""
        return COLOURS[self.number % len(COLOURS)]

    @property
    def is_full(self) -> bool:
        """True for full finetuning."""
        return self.first.finetuning == "full"

    def line(self, **more: Any) -> dict[str, Any]:
        """Style of its line and marks, as arguments of ``Line2D``."""
        marker = MARKERS[self.number % len(MARKERS)]
        return _line(self.is_full, self.colour, marker) | more


@dataclass(frozen=True)
class Plot:
    """A plot that `svg` draws.

    Attributes:
        title: Heading of the plot.
        height: Height in inches, without the legend.
        data: Checkpoints and their numbers.
        draw: Fills an empty figure, given the data and a letter for each setting; returns the
            entries of the legend.
    """

    title: str
    height: float
    data: Sequence[tuple[Checkpoint, Any]]
    draw: Callable[[FigureBase, Any, Mapping[str, str]], list[Line2D]]


def make_plots(
    rows: list[Row], reports: Mapping[str, SurvivalReport]
) -> dict[str, dict[Board, list[Plot]]]:
    """Choose the plots of a table, by file and board; boards without anything to draw are left out.

    Forgetting and recovery have a plot for each quantizer with the fewest bits by which the board
    is ordered; without such an order, for all quantizers with the fewest bits.

    Args:
        rows: The table.
        reports: Survival reports by the stem of their checkpoint.
    """
    methods = sorted({row.method for row in rows if not row.is_reference})
    plots: dict[str, dict[Board, list[Plot]]] = {name: {} for name in TITLES}
    boards = by_board(rows)
    for board, members in boards.items():
        prefix = f"{_shorten(board.title)}: " if len(boards) > 1 else ""
        for key in _compared_precisions(members):
            checkpoints = _checkpoints(members, methods, key)
            for name, choose in (("forgetting", _forgetting), ("recovery", _recovery)):
                if (plot := choose(members, checkpoints, prefix)) is not None:
                    plots[name].setdefault(board, []).append(plot)
        checkpoints = _checkpoints(members, methods, None)
        if survival := _survival(members, checkpoints, prefix, reports):
            plots["survival"][board] = survival
    return {name: by_name for name, by_name in plots.items() if by_name}


def svg(plots: Sequence[Plot]) -> str:
    """Draw plots in a row as an SVG file; the same plots give the same bytes."""
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # the viewer's fonts draw the text
        matplotlib.rcdefaults()  # ignores the user's matplotlibrc
        matplotlib.rcParams.update(STYLE)
        figure = Figure((WIDTH * len(plots), HEIGHT), layout="constrained")
        parts = figure.subfigures(1, len(plots), squeeze=False)[0]
        settings = {c.first.setting for plot in plots for c, _ in plot.data} - {""}
        letters = {setting: chr(ord("a") + i % 26) for i, setting in enumerate(sorted(settings))}
        entries: dict[Any, Line2D] = {}
        for part, plot in zip(parts, plots, strict=True):
            part.suptitle(one_line(plot.title), x=0.02, ha="left", fontsize=9, fontweight="bold")
            entries |= {entry.get_label(): entry for entry in plot.draw(part, plot.data, letters)}
        for setting, letter in letters.items():
            label = f"{letter}: {_shorten(setting, LONGEST_SETTING)}"
            entries[label] = Line2D([], [], linestyle="", label=label)
        columns = max(1, len(plots) * CHARACTERS // (max(map(len, entries)) + ENTRY))
        figure.legend(handles=list(entries.values()), loc="outside lower left", ncols=columns)
        rows = math.ceil(len(entries) / columns)
        figure.set_size_inches(WIDTH * len(plots), max(plot.height for plot in plots) + 0.17 * rows)
        file = io.StringIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(file, format="svg", metadata=nothing)
    text = re.sub(r"\n *", "\n", file.getvalue())
    # matplotlib's ids are hashes of coordinates whose last bits vary between processes
    ids = list(dict.fromkeys(re.findall(r'(?:id="|#)([mp][0-9a-f]{10})[")]', text)))
    return re.sub("|".join(ids), lambda match: f"{match[0][0]}{ids.index(match[0])}", text)


def _compared_precisions(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """Names and digests of the quantizers that a plot compares with no quantization."""
    lowest = min(row.bits for row in rows)
    members = ranking_precisions(rows) or [row for row in rows if row.bits == lowest]
    return list(dict.fromkeys(row.precision_key for row in members if row.is_quantized))


def _checkpoints(
    rows: Sequence[Row], methods: Sequence[str], key: tuple[str, str] | None
) -> list[Checkpoint]:
    rows_by_checkpoint: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        if not row.is_reference:
            rows_by_checkpoint.setdefault(row.checkpoint, []).append(row)
    return [
        Checkpoint(
            first=members[0],
            number=methods.index(members[0].method),
            before=next((row for row in members if not row.is_quantized), None),
            after=next(
                (row for row in members if row.is_quantized and row.precision_key == key), None
            ),
        )
        for members in rows_by_checkpoint.values()
    ]


def _forgetting(rows: list[Row], checkpoints: list[Checkpoint], prefix: str) -> Plot | None:
    """Utility over forget quality, an arrow per checkpoint from before to after quantization."""
    arrows = [
        (checkpoint, (before, after))
        for checkpoint in checkpoints
        if (before := _point(checkpoint.before)) and (after := _point(checkpoint.after))
    ]
    if not arrows:
        return None
    references = {
        row.method: _within(row.values["utility"].mean)
        for row in rows
        if row.is_reference and not row.is_quantized and "utility" in row.values
    }
    ends = [precision(row) for row in (arrows[0][0].before, arrows[0][0].after) if row]
    title = f"{prefix}forgetting and utility, {' → '.join(ends)}"
    return Plot(title, HEIGHT, arrows, partial(_draw_forgetting, references=references))


def _point(row: Row | None) -> Point | None:
    """Forget quality and utility of a row; None if one is missing."""
    if row is None or not {"forget_quality", "utility"} <= row.values.keys():
        return None
    return row.values["forget_quality"].mean, _within(row.values["utility"].mean)


def _draw_forgetting(
    figure: FigureBase,
    arrows: list[tuple[Checkpoint, tuple[Point, Point]]],
    letters: Mapping[str, str],
    references: Mapping[str, float],
) -> list[Line2D]:
    axes = figure.subplots()
    axes.set(xlim=(-0.05, 1.05), xlabel="forget quality: target 0, retrain 1", ylabel="utility")
    for role, utility in references.items():
        x, side, align = (0, 7, "left") if role == "target" else (1, -7, "right")
        axes.plot(x, utility, "x", color=NEUTRAL)
        _write(axes, role, (x, utility), (side, 4), color=NEUTRAL, ha=align)
    for checkpoint, (before, after) in arrows:
        axes.plot(*before, **checkpoint.line())
        axes.plot(*after, marker="")  # the axis includes the tip of the arrow
        letter = letters.get(checkpoint.first.setting, "")
        _write(axes, letter, before, (0, 5), color=checkpoint.colour, ha="center")
    axes.margins(y=0.1)
    for checkpoint, (before, after) in arrows:
        style = {"color": checkpoint.colour, "linestyle": checkpoint.line()["linestyle"]}
        style |= {"arrowstyle": "-|>", "mutation_scale": 6, "shrinkA": 0, "shrinkB": 0}
        if math.dist(*axes.transData.transform([before, after])) > 3:  # room for the head
            axes.annotate("", after, before, arrowprops=style)
    return _legend([checkpoint for checkpoint, _ in arrows])


def _recovery(rows: list[Row], checkpoints: list[Checkpoint], prefix: str) -> Plot | None:
    """A bar per checkpoint for VerbMem and for KnowMem, with its 95% interval."""
    bars = [
        (checkpoint, checkpoint.after)
        for checkpoint in checkpoints
        if checkpoint.after is not None
        and {"recovery_verbmem", "recovery_knowmem"} <= checkpoint.after.values.keys()
    ]
    if not bars:
        return None
    order = list(dict.fromkeys(checkpoint.first.method for checkpoint, _ in bars))
    bars.sort(key=lambda bar: (order.index(bar[0].first.method), not bar[0].is_full))
    title = f"{prefix}points gained at {bars[0][1].precision}"
    height = 1 + 0.17 * len(bars) + 0.1 * len(order)
    return Plot(title, height, bars, _draw_recovery)


def _draw_recovery(
    figure: FigureBase, bars: list[tuple[Checkpoint, Row]], letters: Mapping[str, str]
) -> list[Line2D]:
    heights: list[float] = []
    for i, (checkpoint, _) in enumerate(bars):
        is_new = i and bars[i - 1][0].first.method != checkpoint.first.method
        heights.append(heights[-1] + (1.6 if is_new else 1) if i else 0.0)
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    for axes, metric in zip(panels, ("VerbMem", "KnowMem"), strict=True):
        for (checkpoint, row), y in zip(bars, heights, strict=True):
            value = row.values[f"recovery_{metric.lower()}"]
            mean, error = _within(value.mean), _within(Z * (value.stderr or 0))
            fill = "none" if checkpoint.is_full else checkpoint.colour
            axes.barh(y, mean, 0.7, facecolor=fill, edgecolor=checkpoint.colour)
            if error:
                axes.plot([mean - error, mean + error], [y, y], color=NEUTRAL, linewidth=1)
        axes.axvline(0, color="#8c959f", linewidth=0.8)
        axes.grid(axis="y", visible=False)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.set_xlabel(f"Δ {metric}\nabove 0: more is remembered")
    firsts = [checkpoint.first for checkpoint, _ in bars]
    names = [f"{_shorten(r.method)} {r.finetuning} {letters.get(r.setting, '')}" for r in firsts]
    panels[0].set_yticks(heights, [name.rstrip() for name in names])
    panels[0].invert_yaxis()
    interval = Line2D([], [], color=NEUTRAL, label="95% interval")
    return [*_styles([checkpoint for checkpoint, _ in bars], "s", linestyle=""), interval]


def _line(is_full: bool, colour: str, marker: str) -> dict[str, Any]:
    """Style of a line: dashed and hollow for full finetuning."""
    return {
        "color": colour,
        "linestyle": "--" if is_full else "-",
        "marker": marker,
        "markerfacecolor": "none" if is_full else colour,
    }


def _survival(
    rows: list[Row],
    checkpoints: list[Checkpoint],
    prefix: str,
    reports: Mapping[str, SurvivalReport],
) -> list[Plot]:
    """Kept share by layer: a plot per precision, a line per checkpoint."""
    by_key = {checkpoint.first.checkpoint: checkpoint for checkpoint in checkpoints}
    lines: dict[str, list[tuple[Checkpoint, dict[int, float]]]] = {}
    for row in rows:
        report = reports.get(row.records[0].cell.training.stem)
        shares = kept_by_block(report, row.precision) if report and row.is_quantized else {}
        if shares:
            lines.setdefault(row.precision, []).append((by_key[row.checkpoint], shares))
    return [
        Plot(f"{prefix}kept share at {name}", HEIGHT, members, _draw_survival)
        for name, members in lines.items()
    ]


def _draw_survival(
    figure: FigureBase,
    lines: list[tuple[Checkpoint, dict[int, float]]],
    letters: Mapping[str, str],
) -> list[Line2D]:
    axes = figure.subplots()
    for checkpoint, shares in lines:
        blocks, values = list(shares), [_within(share) for share in shares.values()]
        axes.plot(blocks, values, **checkpoint.line(markersize=3))
        letter = letters.get(checkpoint.first.setting, "")
        _write(axes, letter, (blocks[-1], values[-1]), (4, -3), color=checkpoint.colour)
    low, high = axes.get_ylim()
    axes.set(ylim=(min(low, 0), max(high, 1.03)), xlabel="layer")
    axes.set_ylabel("share of the update that is kept")
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    return _legend([checkpoint for checkpoint, _ in lines])


def _legend(checkpoints: Sequence[Checkpoint]) -> list[Line2D]:
    """Entries of the legend for methods and finetunings."""
    by_method = {checkpoint.first.method: checkpoint for checkpoint in checkpoints}
    entries = [
        checkpoint.line(linestyle="", markerfacecolor=checkpoint.colour, label=_shorten(name))
        for name, checkpoint in sorted(by_method.items())
    ]
    return [*(Line2D([], [], **entry) for entry in entries), *_styles(checkpoints, "o")]


def _styles(checkpoints: Sequence[Checkpoint], marker: str, **more: Any) -> list[Line2D]:
    """Entries of the legend for finetunings."""
    return [
        Line2D([], [], **_line(full, NEUTRAL, marker) | {"label": label} | more)
        for full, label in ((True, "full"), (False, "LoRA"))
        if any(checkpoint.is_full == full for checkpoint in checkpoints)
    ]


def _write(axes: Any, text: str, point: Point, offset: Point, **style: Any) -> None:
    """Write a short text at an offset, in points, from a point of the plot."""
    axes.annotate(text, point, offset, textcoords="offset points", **style)


def _within(number: float) -> float:
    return min(max(number, -LARGEST), LARGEST)


def _shorten(name: str, longest: int = LONGEST_NAME) -> str:
    """Cut a name that is too long for a plot."""
    name = one_line(name)
    return name if len(name) <= longest else name[: longest - 1] + "…"
