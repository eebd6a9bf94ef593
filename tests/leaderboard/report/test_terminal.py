"""The table in a terminal."""

import io
from collections.abc import Callable

import pytest
from rich.console import Console

from leaderboard.records.schema import Record
from leaderboard.report.terminal import print_table
from leaderboard.standings.published import Reported, read_published
from leaderboard.standings.table import build_table

MakeRecord = Callable[..., Record]


def printed(records: list[Record], width: int, reported: list[Reported] | None = None) -> str:
    screen = io.StringIO()
    print_table(Console(file=screen, width=width), "demo", build_table(records), reported or [])
    return screen.getvalue()


@pytest.mark.parametrize("width", [80, 120, 160])
def test_terminal_cuts_no_number(make: MakeRecord, records: list[Record], width: int) -> None:
    npo = make("npo_gdr", "rtn-int4", (45.0, 38.0, -12.3, 80.0))
    text = printed([npo, *records], width)
    assert "…" not in "".join(line for line in text.splitlines() if "npo" in line)
    assert "-12.3" in text
    assert ("±1.5" in text) == (width >= 140)


def test_hostile_names_stay_text(make: MakeRecord) -> None:
    text = printed([make("[bold]x[/bold] \u202e\x1b[31m")], 200)
    assert "[bold]x[/bold]" in text
    assert r"\u202e\x1b[31m" in text


def test_reported_rows_have_tables_of_their_own(make: MakeRecord) -> None:
    text = printed([make("npo_gdr")], 120, read_published(["news"]))
    assert "news, reported: arXiv:2407.06460 (MUSE)" in text
    assert "news: 33 more reported rows, of grids" in text
    assert "reported: numbers from publications" in " ".join(text.split())
