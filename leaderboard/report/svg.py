"""Drawing plots as SVG: axes, marks, legends. The same numbers give the same bytes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from ..reading.escaping import one_line

STYLE = (Path(__file__).parent / "plots.css").read_text(encoding="utf-8")
WIDTH = 460
COLOURS = 8
LONGEST = 28
"""Characters of a name beside a plot."""
LARGEST = 1e9
"""Numbers beyond it are drawn there."""
CHARACTER = 6.3
"""Average width of a character of a label, in pixels."""

Place = tuple[float, float]


@dataclass(frozen=True)
class Axis:
    """A linear scale from numbers to pixels.

    Attributes:
        low: the first number.
        high: the last number, above ``low``.
        start: pixel of ``low``.
        end: pixel of ``high``.
        ticks: numbers that are written beside it.
    """

    low: float
    high: float
    start: float
    end: float
    ticks: Sequence[float]

    def __call__(self, number: float) -> float:
        """The pixel of a number."""
        return self.start + (number - self.low) / (self.high - self.low) * (self.end - self.start)


def axis(numbers: Iterable[float], start: float, end: float, ticks: int = 5) -> Axis:
    """An axis over all ``numbers``, from one round number to another; absurd ones are cut off."""
    within = [min(max(number, -LARGEST), LARGEST) for number in numbers]
    low, high = min(within), max(within)
    if low == high:
        low, high = low - 1, high + 1
    rough = (high - low) / ticks
    unit = 10 ** math.floor(math.log10(rough))
    step = next(unit * times for times in (1, 2, 5, 10) if unit * times >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    marks = [n * step for n in range(first, last + 1)]
    return Axis(marks[0], marks[-1], start, end, marks)


def canvas(title: str, height: float, width: float = WIDTH) -> Element:
    """An empty plot with its title."""
    svg = Element(
        "svg",
        {
            "xmlns": "http://www.w3.org/2000/svg",
            "class": "plot",
            "role": "img",
            "viewBox": f"0 0 {pixel(width)} {pixel(height)}",
            "width": pixel(width),
            "height": pixel(height),
        },
    )
    SubElement(svg, "title").text = one_line(title)
    text(svg, 0, 14, title, "heading")
    return svg


def standalone(plots: Sequence[Element]) -> str:
    """A file with plots side by side."""
    size = [(float(plot.get("width", 0)), float(plot.get("height", 0))) for plot in plots]
    gap, border = 24, 12
    width = sum(width for width, _ in size) + gap * (len(plots) - 1) + 2 * border
    height = max(height for _, height in size) + 2 * border
    svg = Element(
        "svg",
        {
            "xmlns": "http://www.w3.org/2000/svg",
            "viewBox": f"0 0 {pixel(width)} {pixel(height)}",
            "width": pixel(width),
            "height": pixel(height),
        },
    )
    SubElement(svg, "style").text = STYLE
    SubElement(svg, "rect", {"class": "paper", "width": "100%", "height": "100%"})
    x = float(border)
    for plot, (wide, _) in zip(plots, size, strict=True):
        place = SubElement(svg, "g", {"transform": f"translate({pixel(x)} {border})"})
        place.append(plot)
        x += wide + gap
    return ElementTree.tostring(svg, encoding="unicode") + "\n"


def inline(plot: Element) -> str:
    """A plot as a part of an HTML page."""
    return ElementTree.tostring(plot, encoding="unicode", short_empty_elements=False)


def group(parent: Element, css: str, title: str = "") -> Element:
    """A group of one class; ``title`` is shown where the mouse is on it."""
    element = SubElement(parent, "g", {"class": css})
    if title:
        SubElement(element, "title").text = one_line(title)
    return element


def text(
    parent: Element, x: float, y: float, content: str, css: str = "", anchor: str = "start"
) -> None:
    """A line of text."""
    attributes = {"x": pixel(x), "y": pixel(y), "text-anchor": anchor}
    element = SubElement(parent, "text", attributes | ({"class": css} if css else {}))
    element.text = one_line(content)


def shorten(name: str, longest: int = LONGEST) -> str:
    """A name that fits beside a plot."""
    name = one_line(name)
    return name if len(name) <= longest else name[: longest - 1] + "…"


def line(parent: Element, start: Place, end: Place, css: str) -> None:
    """A straight line."""
    places = zip(("x1", "y1", "x2", "y2"), (*start, *end), strict=True)
    SubElement(parent, "line", {"class": css} | {key: pixel(value) for key, value in places})


def path(parent: Element, points: Sequence[Place], css: str, close: str = "") -> None:
    """Straight lines through points; ``close`` is ``Z`` for an outline."""
    steps = "L".join(f"{pixel(x)} {pixel(y)}" for x, y in points)
    SubElement(parent, "path", {"class": css, "d": f"M{steps}{close}"})


def frame(
    parent: Element, x: Axis, y: Axis, labels: tuple[str, str], percent: bool = False
) -> None:
    """Grid lines, ticks and the labels of both axes; ``percent`` writes those of y as shares."""
    for tick in y.ticks:
        line(parent, (x.start, y(tick)), (x.end, y(tick)), "grid")
        label = f"{100 * tick:g}%" if percent else _tick(tick)
        text(parent, x.start - 6, y(tick) + 3.5, label, "tick", "end")
    for tick in x.ticks:
        line(parent, (x(tick), y.start), (x(tick), y.start + 4), "axis")
        text(parent, x(tick), y.start + 16, _tick(tick), "tick", "middle")
    line(parent, (x.start, y.start), (x.end, y.start), "axis")
    text(parent, (x.start + x.end) / 2, y.start + 32, labels[0], "label", "middle")
    text(parent, 0, min(y.start, y.end) - 18, labels[1], "label")


def columns(parent: Element, x: Axis, top: float, bottom: float, label: str) -> None:
    """Vertical grid lines with their ticks below and a label above; the one at 0 is an axis."""
    for tick in x.ticks:
        line(parent, (x(tick), top), (x(tick), bottom), "grid" if tick else "axis")
        text(parent, x(tick), bottom + 14, _tick(tick), "tick", "middle")
    text(parent, x.start, top - 6, label, "label")


def bar(parent: Element, x: Axis, number: float, top: float, thick: float, css: str) -> None:
    """A bar from 0 to a number."""
    left, right = sorted((x(0), x(number)))
    places = {"x": left, "y": top, "width": right - left, "height": thick}
    SubElement(parent, "rect", {"class": css} | {key: pixel(v) for key, v in places.items()})


def cross(parent: Element, place: Place) -> None:
    """A small diagonal cross."""
    x, y = place
    line(parent, (x - 4, y - 4), (x + 4, y + 4), "axis")
    line(parent, (x - 4, y + 4), (x + 4, y - 4), "axis")


def mark(parent: Element, place: Place, shape: int, css: str) -> None:
    """One of seven shapes, of one size."""
    x, y = place
    corners, turn, radius = _SHAPES[shape % len(_SHAPES)]
    if not corners:
        circle = {"cx": pixel(x), "cy": pixel(y), "r": pixel(radius)}
        SubElement(parent, "circle", {"class": css} | circle)
        return
    angles = (turn + 2 * math.pi * n / corners for n in range(corners))
    points = [(x + radius * math.sin(a), y - radius * math.cos(a)) for a in angles]
    path(parent, points, css, close="Z")


def arrow(parent: Element, start: Place, end: Place, css: str) -> None:
    """An arrow; where it would be shorter than its head, nothing."""
    length = math.dist(start, end)
    if length < 4:
        return
    size = min(7.0, length)
    across, along = (end[0] - start[0]) / length, (end[1] - start[1]) / length
    neck = (end[0] - size * across, end[1] - size * along)
    sides = [
        (neck[0] + side * size / 2.4 * along, neck[1] - side * size / 2.4 * across)
        for side in (1, -1)
    ]
    line(parent, start, neck, f"line {css}")
    path(parent, [end, *sides], "head", close="Z")


def flow(labels: Iterable[str], width: float = WIDTH) -> list[Place]:
    """Where the entries of a legend go, from the top left: a place before each of the labels."""
    places, x, y = [], 0.0, 0.0
    for label in labels:
        wide = 22 + CHARACTER * len(label) + 12
        if x and x + wide > width:
            x, y = 0.0, y + 18
        places.append((x, y))
        x += wide
    return places


def pixel(number: float) -> str:
    """A coordinate, to a tenth of a pixel."""
    digits = f"{number:.1f}".removesuffix(".0")
    return "0" if digits == "-0" else digits


def _tick(number: float) -> str:
    return f"{number:.10g}".replace("-", "−")


# corners, turn, radius: disc, square, triangle, diamond, inverted triangle, pentagon, hexagon
_SHAPES = (
    (0, 0.0, 4.0),
    (4, math.pi / 4, 5.0),
    (3, 0.0, 5.2),
    (4, 0.0, 5.2),
    (3, math.pi, 5.2),
    (5, 0.0, 4.8),
    (6, math.pi / 6, 4.6),
)
