"""The plots: forgetting against utility, recovery, kept share; full finetuning and LoRA in each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from ..records.survival import SurvivalReport
from ..standings.estimates import Z
from ..standings.table import Board, Row, by_board, precision, ranking_precisions
from . import svg
from .columns import method, value_text
from .survival import kept_by_block
from .svg import Axis, Place

TITLES = {
    "forgetting": "Forgetting against utility, before and after quantization",
    "recovery": "Points gained by quantization",
    "survival": "Kept share of the update, by layer",
}
"""Titles of the plots by the names of their files."""
LEFT, RIGHT = 48.0, svg.WIDTH - 12.0
THICK = 11.0
"""Of a bar, in pixels."""
WHOLE_LINE = int((svg.WIDTH - 34) / svg.CHARACTER)
"""Characters of a setting, alone on a line of the legend."""
STYLES = {"full": "full: dashed, hollow", "other": "LoRA: solid, filled"}


@dataclass(frozen=True)
class Checkpoint:
    """An unlearned model before and after quantization.

    Attributes:
        colour: number of its method among those of the whole table, for colour and shape.
        before: the row of the unquantized model; None where there is none.
        after: the row at the precision of the plot; None where there is none.
    """

    first: Row
    colour: int
    before: Row | None
    after: Row | None

    @property
    def name(self) -> str:
        """Method and finetuning."""
        return f"{method(self.first)} {self.first.finetuning}"

    @property
    def short_name(self) -> str:
        """The same without the settings, for which a legend has a letter."""
        return svg.shorten(f"{self.first.method} {self.first.finetuning}")

    @property
    def css(self) -> str:
        """Class of its colour."""
        return f"c{self.colour % svg.COLOURS}"

    @property
    def style(self) -> str:
        """Full finetuning is drawn dashed and hollow, all else solid and filled."""
        return "full" if self.first.finetuning == "full" else "other"


def make_plots(
    rows: list[Row], reports: Mapping[str, SurvivalReport]
) -> dict[str, dict[Board, list[Element]]]:
    """Draw the rows: by the plot's name, for every board that has something to draw.

    Forgetting and recovery are drawn once for every quantizer with the fewest bits by which the
    board is ordered; without such an order, for all quantizers with the fewest bits.

    Args:
        rows: the table.
        reports: survival reports by checkpoint.
    """
    methods = sorted({row.method for row in rows if not row.is_reference})
    drawings: dict[str, Callable[[list[Row], list[Checkpoint], str], list[Element]]] = {
        "forgetting": _forgetting,
        "recovery": _recovery,
    }
    plots: dict[str, dict[Board, list[Element]]] = {name: {} for name in TITLES}
    boards = by_board(rows)
    for board, members in boards.items():
        prefix = f"{svg.shorten(board.title)}: " if len(boards) > 1 else ""
        for key in _shown_precisions(members):
            checkpoints = _checkpoints(members, methods, key)
            for name, draw in drawings.items():
                if found := draw(members, checkpoints, prefix):
                    plots[name].setdefault(board, []).extend(found)
        known = _checkpoints(members, methods, None)
        if found := _survival(members, known, prefix, reports):
            plots["survival"][board] = found
    return {name: found for name, found in plots.items() if found}


def _shown_precisions(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """Names and digests of the quantizers that a plot compares with no quantization."""
    lowest = min(row.bits for row in rows)
    members = ranking_precisions(rows) or [row for row in rows if row.bits == lowest]
    return list(dict.fromkeys(row.precision_key for row in members if row.is_quantized))


def _checkpoints(
    rows: Sequence[Row], methods: Sequence[str], key: tuple[str, str] | None
) -> list[Checkpoint]:
    found: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        if not row.is_reference:
            found.setdefault(row.checkpoint, []).append(row)
    return [
        Checkpoint(
            first=members[0],
            colour=methods.index(members[0].method),
            before=next((row for row in members if not row.is_quantized), None),
            after=next(
                (row for row in members if row.is_quantized and row.precision_key == key), None
            ),
        )
        for members in found.values()
    ]


def _forgetting(rows: list[Row], checkpoints: list[Checkpoint], prefix: str) -> list[Element]:
    """Utility over forget quality, an arrow per checkpoint from before to after quantization."""
    ways = [
        (checkpoint, *points)
        for checkpoint in checkpoints
        if (points := _way(checkpoint)) is not None
    ]
    if not ways:
        return []
    before, after = ways[0][0].before, ways[0][0].after
    references = {
        row.method: row.values["utility"].mean
        for row in rows
        if row.is_reference and not row.is_quantized and "utility" in row.values
    }
    utilities = [point[1] for _, start, end in ways for point in (start, end)]
    height, legend = 300.0, _Legend([checkpoint for checkpoint, _, _ in ways])
    way = f"{precision(before)} → {precision(after)}" if before and after else ""
    plot = svg.canvas(f"{prefix}forgetting and utility, {way}", height + legend.height)
    x = Axis(-0.05, 1.05, LEFT, RIGHT, (0, 0.25, 0.5, 0.75, 1))
    y = svg.axis([*utilities, *references.values()], height - 46, 50)
    svg.frame(plot, x, y, ("forget quality: target 0, retrained 1", "utility"))
    for role, utility in references.items():
        where = (x(0.0 if role == "target" else 1.0), y(utility))
        svg.cross(plot, where)
        anchor, side = ("start", 8) if role == "target" else ("end", -8)
        svg.text(plot, where[0] + side, where[1] - 6, role, "tick", anchor)
    for checkpoint, start, end in ways:
        text = f"{checkpoint.name}: {start[0]:.2f}, {start[1]:.1f} → {end[0]:.2f}, {end[1]:.1f}"
        part = svg.group(plot, checkpoint.css, text)
        ends = [(x(quality), y(utility)) for quality, utility in (start, end)]
        svg.arrow(part, ends[0], ends[1], checkpoint.style)
        svg.mark(part, ends[0], checkpoint.colour, f"mark {checkpoint.style}")
        if letter := legend.letter(checkpoint):
            svg.text(part, ends[0][0], ends[0][1] - 8, letter, anchor="middle")
    legend.draw(plot, height)
    return [plot]


def _way(checkpoint: Checkpoint) -> tuple[Place, Place] | None:
    """Forget quality and utility before and after quantization; None where one is missing."""
    points = []
    for row in (checkpoint.before, checkpoint.after):
        if row is None or not {"forget_quality", "utility"} <= row.values.keys():
            return None
        points.append((row.values["forget_quality"].mean, row.values["utility"].mean))
    return points[0], points[1]


def _recovery(rows: list[Row], checkpoints: list[Checkpoint], prefix: str) -> list[Element]:
    """A bar per checkpoint for VerbMem and for KnowMem, with its 95% interval."""
    metrics = {"recovery_verbmem": "VerbMem", "recovery_knowmem": "KnowMem"}
    shown = [
        (checkpoint, checkpoint.after)
        for checkpoint in checkpoints
        if checkpoint.after is not None and metrics.keys() <= checkpoint.after.values.keys()
    ]
    if not shown:
        return []
    order = list(dict.fromkeys(checkpoint.first.method for checkpoint, _ in shown))
    shown.sort(key=lambda pair: (order.index(pair[0].first.method), pair[0].style != "full"))
    tops, y = [], 50.0
    for i, (checkpoint, _) in enumerate(shown):
        new = i and shown[i - 1][0].first.method != checkpoint.first.method
        y += THICK + (10 if new else 3) if i else 0
        tops.append(y)
    bottom = y + THICK + 6
    legend = _Legend([checkpoint for checkpoint, _ in shown], marks=False)
    title = f"{prefix}points gained at {shown[0][1].precision}"
    plot = svg.canvas(title, bottom + 44 + legend.height)
    names = [f"{c.short_name} {legend.letter(c)}".rstrip() for c, _ in shown]
    left = 12 + svg.CHARACTER * max(map(len, names))
    wide = (RIGHT - left - 24) / 2
    ends = [
        row.values[key].mean + side * Z * (row.values[key].stderr or 0)
        for _, row in shown
        for key in metrics
        for side in (-1, 1)
    ]
    for (key, metric), start in zip(metrics.items(), (left, left + wide + 24), strict=True):
        axis = svg.axis([0, *ends], start, start + wide, ticks=3)
        svg.columns(plot, axis, 44, bottom, f"Δ {metric}")
        for (checkpoint, row), top in zip(shown, tops, strict=True):
            value = row.values[key]
            text = f"{checkpoint.name}: Δ {metric} {value_text(value, signed=True)}"
            part = svg.group(plot, checkpoint.css, text)
            svg.bar(part, axis, value.mean, top, THICK, f"bar {checkpoint.style}")
            if value.stderr is not None:
                low, high = (axis(value.mean + side * Z * value.stderr) for side in (-1, 1))
                svg.line(part, (low, top + THICK / 2), (high, top + THICK / 2), "spread")
    for name, top in zip(names, tops, strict=True):
        svg.text(plot, left - 8, top + THICK - 2, name, anchor="end")
    styles = "full: hollow, LoRA: filled"
    svg.text(plot, 12, bottom + 34, f"above 0: more remembered; lines: 95%; {styles}", "label")
    legend.draw(plot, bottom + 44)
    return [plot]


def _survival(
    rows: list[Row],
    checkpoints: list[Checkpoint],
    prefix: str,
    reports: Mapping[str, SurvivalReport],
) -> list[Element]:
    """Kept share by layer, a plot for each precision, a line for each checkpoint."""
    known = {checkpoint.first.checkpoint: checkpoint for checkpoint in checkpoints}
    grids: dict[str, list[tuple[Checkpoint, dict[int, float]]]] = {}
    for row in rows:
        report = reports.get(row.records[0].cell.training.stem)
        shares = kept_by_block(report, row.precision) if report and row.is_quantized else {}
        if shares:
            grids.setdefault(row.precision, []).append((known[row.checkpoint], shares))
    return [_grid(f"{prefix}kept share at {grid}", lines) for grid, lines in grids.items()]


def _grid(title: str, lines: list[tuple[Checkpoint, dict[int, float]]]) -> Element:
    height = 260.0
    legend = _Legend([checkpoint for checkpoint, _ in lines])
    plot = svg.canvas(title, height + legend.height)
    last = max(block for _, shares in lines for block in shares)
    step = max(1, -(-last // 8))
    x = Axis(0, max(last, 1), LEFT, RIGHT, range(0, last + 1, step))
    every = [share for _, shares in lines for share in shares.values()]
    y = svg.axis([0, 1, *every], height - 46, 50)
    svg.frame(plot, x, y, ("layer", "share of the update that is kept"), percent=True)
    for checkpoint, shares in lines:
        part = svg.group(plot, checkpoint.css, checkpoint.name)
        points = [(x(block), y(share)) for block, share in shares.items()]
        svg.path(part, points, f"line {checkpoint.style}")
        for point in points:
            svg.mark(part, point, checkpoint.colour, f"mark small {checkpoint.style}")
        if letter := legend.letter(checkpoint):
            svg.text(part, points[-1][0] + 5, points[-1][1] + 4, letter)
    legend.draw(plot, height)
    return plot


class _Legend:
    """Meaning of colours, styles and letters, for the checkpoints of one plot.

    Args:
        checkpoints: in the order of the plot.
        marks: whether colours and styles are explained, or letters alone.

    Attributes:
        letters: for every setting that sets checkpoints apart which are drawn alike, what stands
            for it.
        height: what drawing it takes, in pixels.
    """

    def __init__(self, checkpoints: list[Checkpoint], marks: bool = True) -> None:
        settings = sorted({checkpoint.first.setting for checkpoint in checkpoints} - {""})
        self.letters = {setting: chr(ord("a") + i % 26) for i, setting in enumerate(settings)}
        marked = checkpoints if marks else []
        methods = dict(sorted((c.first.method, c.colour) for c in marked))
        self._colours = list(methods.values())
        self._styles = sorted({checkpoint.style for checkpoint in marked})
        self._labels = [
            *map(svg.shorten, methods),
            *(STYLES[style] for style in self._styles),
            *(svg.shorten(setting, WHOLE_LINE) for setting in self.letters),
        ]
        self._places = svg.flow(self._labels)
        self.height = 24 + self._places[-1][1] if self._places else 0.0

    def letter(self, checkpoint: Checkpoint) -> str:
        """The letter of a checkpoint's setting; empty where nothing is drawn like it."""
        return self.letters.get(checkpoint.first.setting, "")

    def draw(self, plot: Element, y: float) -> None:
        """Draw it below ``y``."""
        for label, (dx, dy) in zip(self._labels, self._places, strict=True):
            svg.text(plot, dx + 22, y + 12 + dy, label)
        places = iter(self._places)
        for colour, (dx, dy) in zip(self._colours, places, strict=False):
            part = svg.group(plot, f"c{colour % svg.COLOURS}")
            svg.mark(part, (dx + 10, y + 8 + dy), colour, "mark")
        for style, (dx, dy) in zip(self._styles, places, strict=False):
            svg.line(plot, (dx, y + 8 + dy), (dx + 18, y + 8 + dy), f"line {style}")
            svg.mark(plot, (dx + 9, y + 8 + dy), 0, f"mark {style}")
        for letter, (dx, dy) in zip(self.letters.values(), places, strict=False):
            svg.text(plot, dx + 10, y + 12 + dy, letter, anchor="middle")
