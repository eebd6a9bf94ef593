"""Plots as SVG: where things are, how full and LoRA differ, that names stay names."""

from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import pytest

from leaderboard.records.schema import Record
from leaderboard.report import svg
from leaderboard.report.plots import make_plots
from leaderboard.standings.table import build_table

MakeRecord = Callable[..., Record]


@pytest.fixture
def records(make: MakeRecord) -> list[Record]:
    """`npo` forgets all of it; with full finetuning VerbMem goes from 20 back to 60 at int4."""
    references = [
        make(role, precision, values)
        for precision in ("none", "rtn-int4")
        for role, values in (
            ("target", (100.0, 80.0, -100.0, 80.0)),
            ("retrain", (20.0, 30.0, 0.0, 80.0)),
        )
    ]
    return references + [
        make("npo", precision, (verbmem, 30.0, 0.0, 60.0), finetuning)
        for finetuning, after in (("full", 60.0), ("lora", 20.0))
        for precision, verbmem in (("none", 20.0), ("rtn-int4", after))
    ]


def plot(records: list[Record], kind: str) -> Element:
    ((drawn,),) = make_plots(build_table(records), {})[kind].values()
    return drawn


def found(element: Element, tag: str, css: str) -> list[Element]:
    return [e for e in element.iter(tag) if set(css.split()) <= set(e.get("class", "").split())]


def test_axis_ends_at_round_numbers() -> None:
    """3 to 58 in steps of 20; 0 at the first pixel, 60 at the last."""
    axis = svg.axis([3.0, 58.0], 0.0, 120.0, ticks=3)
    assert list(axis.ticks) == [0, 20, 40, 60]
    assert axis(30.0) == 60.0


@pytest.mark.parametrize("numbers", [[0.0], [5.0, 5.0], [-1e300, 1e300], [1e-7, 2e-7]])
def test_axis_of_strange_numbers(numbers: list[float]) -> None:
    axis = svg.axis(numbers, 0.0, 100.0)
    assert axis.low < axis.high
    assert 2 <= len(axis.ticks) <= 12


def test_an_arrow_from_before_to_after_quantization(records: list[Record]) -> None:
    """Forget quality 1 before; after, (1/2 + 1 + 1) / 3 = 5/6 with full, 1 with LoRA: no arrow.

    x runs from -0.05 at pixel 48 to 1.05 at 448: 1 is at 48 + 400 · 1.05 / 1.1 = 429.8, 5/6 at
    48 + 400 · (5/6 + 0.05) / 1.1 = 369.2.
    """
    drawn = plot(records, "forgetting")
    (arrow,) = found(drawn, "path", "head")
    tip = arrow.get("d", "").removeprefix("M").split("L")[0].split()[0]
    assert tip == "369.2"
    marks = found(drawn, "circle", "mark full") + found(drawn, "circle", "mark other")
    assert [mark.get("cx") for mark in marks if mark.get("cx", "").startswith("429")] == [
        "429.8"
    ] * 2


def test_full_and_lora_differ_by_more_than_colour(records: list[Record]) -> None:
    bars = found(plot(records, "recovery"), "rect", "bar")
    assert {bar.get("class") for bar in bars} == {"bar full", "bar other"}
    assert ".bar.full { fill-opacity: 0; }" in svg.STYLE
    assert ".line.full { stroke-dasharray" in svg.STYLE


def test_bars_are_as_long_as_the_recovery(records: list[Record]) -> None:
    """VerbMem with full finetuning: 40 points; all else nothing."""
    bars = found(plot(records, "recovery"), "rect", "bar")
    widths = [float(bar.get("width", 0)) for bar in bars]
    assert sorted(widths)[:3] == [0, 0, 0]
    titles = [e.text or "" for e in plot(records, "recovery").iter("title")]
    assert "npo full: Δ VerbMem +40.0 ±2.1" in titles  # √2 · 1.5, without scores of examples


def test_settings_of_one_method_are_named_beside_their_marks(
    make: MakeRecord, records: list[Record]
) -> None:
    """Both are full finetuning of npo, so colour, shape and line are the same."""
    bf16 = [
        make("npo", precision, (50.0, 40.0, 0.0, 70.0), settings={"weights_dtype": "bfloat16"})
        for precision in ("none", "rtn-int4")
    ]
    f32 = {"weights_dtype": "float32"}
    named = [
        make("npo", precision, (20.0, 30.0, 0.0, 60.0), settings=f32)
        for precision in ("none", "rtn-int4")
    ]
    alone = "".join(plot(records, "forgetting").itertext())
    assert "bfloat16" not in alone
    texts = [e.text for e in plot(records[:4] + bf16 + named, "forgetting").iter("text")]
    assert texts.count("bfloat16") == texts.count("float32") == 1
    assert texts.count("a") == texts.count("b") == 2  # beside the mark and in the legend
    texts = [e.text for e in plot(records[:4] + bf16 + named, "recovery").iter("text")]
    assert texts.count("npo full a") == texts.count("npo full b") == texts.count("bfloat16") == 1


def test_names_stay_text(make: MakeRecord, records: list[Record]) -> None:
    name = "</text><script>x</script>\u202e"
    hostile = [make(name, precision, (20.0, 30.0, 0.0, 60.0)) for precision in ("none", "rtn-int4")]
    for plots in make_plots(build_table(records + hostile), {}).values():
        text = svg.standalone([drawn for found in plots.values() for drawn in found])
        root = ElementTree.fromstring(text)
        assert not [e for e in root.iter() if e.tag.endswith("script")]
        assert "\u202e" not in text
        assert r"\u202e" in "".join(root.itertext())


def test_nothing_to_draw(make: Any) -> None:
    assert make_plots(build_table([make("npo"), make("target")]), {}) == {}
