"""Content of the plots, the difference between full finetuning and LoRA, and untrusted names."""

import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

import matplotlib
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from leaderboard.records.schema import Record
from leaderboard.report.plots import LARGEST, Plot, make_plots, svg
from leaderboard.standings.table import build_table

MakeRecord = Callable[..., Record]


@pytest.fixture
def records(make: MakeRecord) -> list[Record]:
    """`npo` forgets everything; with full finetuning VerbMem rises from 20 to 60 at int4."""
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


def plot(records: list[Record], kind: str) -> Plot:
    ((members),) = make_plots(build_table(records), {})[kind].values()
    return members[0]


def drawn(records: list[Record], kind: str) -> Figure:
    figure = Figure()
    chosen = plot(records, kind)
    chosen.draw(figure, chosen.data, {})
    return figure


def texts(source: str) -> list[str]:
    return [e.text or "" for e in ElementTree.fromstring(source).iter() if e.tag.endswith("text")]


def test_an_arrow_from_before_to_after_quantization(records: list[Record]) -> None:
    """Forget quality 1 before; after, (1/2 + 1 + 1) / 3 = 5/6 with full, 1 with LoRA: no arrow."""
    (axes,) = drawn(records, "forgetting").axes
    (arrow,) = [text for text in axes.texts if text.arrow_patch]
    assert arrow.xyann == (1.0, 60.0)
    assert arrow.xy == (pytest.approx(5 / 6), 60.0)
    assert {text.get_text(): text.xy for text in axes.texts if text.get_text()} == {
        "target": (0.0, 80.0),
        "retrain": (1.0, 80.0),
    }


def test_full_and_lora_differ_by_more_than_colour(records: list[Record]) -> None:
    (axes,) = drawn(records, "forgetting").axes
    styles = [
        (line.get_linestyle(), line.get_markerfacecolor())
        for line in axes.lines
        if line.get_marker() == "o"
    ]
    assert sorted(styles) == [("-", "#0b6cb0"), ("--", "none")]
    for panel in drawn(records, "recovery").axes:
        colours = [to_hex(bar.get_facecolor(), keep_alpha=True) for bar in panel.patches]
        assert sorted(colours) == ["#00000000", "#0b6cb0ff"]


def test_bars_are_as_long_as_the_recovery(records: list[Record]) -> None:
    """VerbMem with full finetuning: 40 points ± √2 · 1.5 · 1.96; all else nothing."""
    verbmem, knowmem = drawn(records, "recovery").axes
    assert [bar.get_width() for bar in verbmem.patches] == [40.0, 0.0]
    assert [bar.get_width() for bar in knowmem.patches] == [0.0, 0.0]
    low, high = verbmem.lines[0].get_xdata()
    assert (high - low) / 2 == pytest.approx(2**0.5 * 1.5 * 1.96, abs=1e-3)
    assert [label.get_text() for label in verbmem.get_yticklabels()] == ["npo full", "npo lora"]


def test_settings_of_one_method_have_letters(make: MakeRecord, records: list[Record]) -> None:
    """Both are full finetuning of npo, so colour, shape and line are the same."""
    named = [
        make("npo", precision, values, settings={"weights_dtype": dtype})
        for dtype, values in (
            ("bfloat16", (50.0, 40.0, 0.0, 70.0)),
            ("float32", (20.0, 30.0, 0.0, 60.0)),
        )
        for precision in ("none", "rtn-int4")
    ]
    assert "float32" not in "".join(texts(svg([plot(records, "recovery")])))
    shown = texts(svg([plot(records[:4] + named, "forgetting")]))
    assert {"a", "b", "a: bfloat16", "b: float32"} <= {*shown}
    shown = texts(svg([plot(records[:4] + named, "recovery")]))
    assert {"npo full a", "npo full b", "a: bfloat16", "b: float32"} <= {*shown}


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("</text><script>x\u202e", r"</text><script>x\u202e"),
        ("$\\frac{1}{0}$ $", "$\\frac{1}{0}$ $"),
        ("_hidden", "_hidden"),
        ("漢字", "漢字"),
    ],
)
def test_names_stay_text(make: MakeRecord, records: list[Record], name: str, shown: str) -> None:
    hostile = [make(name, precision, (20.0, 30.0, 0.0, 60.0)) for precision in ("none", "rtn-int4")]
    for plots in make_plots(build_table(records + hostile), {}).values():
        source = svg([member for members in plots.values() for member in members])
        tags = {e.tag.rpartition("}")[2] for e in ElementTree.fromstring(source).iter()}
        assert not tags & {"script", "a", "image", "foreignObject"}
        assert "\u202e" not in source
        assert any(shown in text for text in texts(source))


def test_absurd_numbers(make: MakeRecord, records: list[Record]) -> None:
    absurd = [make("npo", "none", (20.0, 30.0, 0.0, 1e300)), *records[:4], *records[5:]]
    (axes,) = drawn(absurd, "forgetting").axes
    assert LARGEST <= axes.get_ylim()[1] < 2 * LARGEST
    svg([plot(absurd, "forgetting")])


def test_the_same_bytes_in_another_process_and_with_other_defaults(records: list[Record]) -> None:
    plots = [plot(records, "forgetting"), plot(records, "recovery")]
    with matplotlib.rc_context({"font.size": 20, "svg.fonttype": "path"}):
        source = svg(plots)
    assert source == svg(plots)
    assert not re.search(r"<metadata|<dc:|[Mm]atplotlib v", source)
    code = (
        "import sys, pickle; from leaderboard.report.plots import svg;"
        "sys.stdout.buffer.write(svg(pickle.load(sys.stdin.buffer)).encode())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=pickle.dumps(plots), capture_output=True, check=True
    )
    assert done.stdout.decode() == source


def test_the_leaderboard_does_not_import_matplotlib() -> None:
    code = "import sys, leaderboard.cli; sys.exit('matplotlib' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_nothing_to_draw(make: Any) -> None:
    assert make_plots(build_table([make("npo"), make("target")]), {}) == {}
