import io
from collections.abc import Callable

import pytest
from rich.console import Console

from leaderboard.cell import Record
from leaderboard.report.markdown import markdown
from leaderboard.report.terminal import print_table
from leaderboard.table import build_table

MakeRecord = Callable[..., Record]
TARGET = (100.0, 80.0, -100.0, 80.0)
RETRAIN = (20.0, 30.0, 0.0, 78.0)


@pytest.fixture
def references(make: MakeRecord) -> list[Record]:
    return [
        make(role, precision, values)
        for precision in ("bf16", "rtn-int4")
        for role, values in (("target", TARGET), ("retrain", RETRAIN))
    ]


def names(records: list[Record]) -> list[tuple[str, str, str]]:
    return [(row.method, row.finetuning, row.precision) for row in build_table(records)]


def test_order(make: MakeRecord, references: list[Record]) -> None:
    """References, then by score at the lowest precision, those that did not forget after."""
    forgot_at_int4 = make("good", "rtn-int4", (20.0, 30.0, -90.0, 50.0))
    records = [
        make("useful", "bf16", (20.0, 30.0, 0.0, 80.0)),  # best at bf16, but …
        make("useful", "rtn-int4", (90.0, 75.0, 0.0, 80.0)),  # … everything came back
        make("good", "bf16", (60.0, 50.0, -90.0, 50.0)),
        forgot_at_int4,
        *references,
    ]
    assert [name[::2] for name in names(records)] == [
        ("target", "bf16"),
        ("target", "rtn-int4"),
        ("retrain", "bf16"),
        ("retrain", "rtn-int4"),
        ("good", "bf16"),
        ("good", "rtn-int4"),
        ("useful", "bf16"),
        ("useful", "rtn-int4"),
    ]


def test_recovery_is_against_the_same_checkpoint(
    make: MakeRecord, references: list[Record]
) -> None:
    records = [
        make("npo", "bf16", (30.0, 40.0, 0.0, 80.0)),
        make("npo", "rtn-int4", (45.0, 38.0, 0.0, 80.0)),
        *references,
    ]
    row = build_table(records)[-1]
    assert row.values["recovery_verbmem"].mean == pytest.approx(15.0)
    assert row.values["recovery_knowmem"].mean == pytest.approx(-2.0)


def test_seeds_give_mean_and_deviation(make: MakeRecord, references: list[Record]) -> None:
    """30 and 34: mean 32, sample standard deviation sqrt(8) = 2.83."""
    records = [
        make("npo", "bf16", (value, 40.0, 0.0, 80.0), seed=seed)
        for seed, value in enumerate((30.0, 34.0))
    ]
    row = build_table(records + references)[-1]
    assert row.seeds == 2
    assert row.values["verbmem"].mean == 32.0
    assert row.values["verbmem"].spread == pytest.approx(8**0.5)
    assert "32.0 ±2.8" in markdown("t", [row])


def test_a_failed_seed_leaves_no_mean(make: MakeRecord, references: list[Record]) -> None:
    records = [
        make("npo", "bf16", (30.0, 40.0, 0.0, 80.0)),
        make("npo", "bf16", (None,) * 4, seed=1, status="diverged", reason="loss is NaN"),
    ]
    row = build_table(records + references)[-1]
    assert row.values == {}
    assert row.notes == ("diverged: loss is NaN",)
    text = markdown("t", [row])
    assert "| npo | full | bf16 | — | — | — | — | — | — | — | — |" in text
    assert "loss is NaN" in text


def test_no_score_without_references(make: MakeRecord) -> None:
    (row,) = build_table([make("npo", "rtn-int4")])
    assert set(row.values) == {"verbmem", "knowmem", "privleak", "utility"}
    assert row.forgot is None


def test_other_settings_are_another_row(make: MakeRecord) -> None:
    rows = build_table([make("npo", settings={"epochs": n}) for n in (1, 2)])
    assert len(rows) == 2
    assert all(row.settings in markdown("t", rows) for row in rows)


def test_hostile_names_stay_text(make: MakeRecord) -> None:
    rows = build_table([make("<script>alert(1)</script> | [bold]x[/bold]")])
    text = markdown("t", rows)
    assert "<script>" not in text
    assert r"\|" in text
    screen = io.StringIO()
    print_table(Console(file=screen, width=200), "t", rows)
    assert "[bold]x[/bold]" in screen.getvalue()


@pytest.mark.parametrize("width", [80, 120, 160])
def test_terminal_cuts_no_number(make: MakeRecord, references: list[Record], width: int) -> None:
    screen = io.StringIO()
    rows = build_table([make("npo_gdr", "rtn-int4", (45.0, 38.0, -12.3, 80.0)), *references])
    print_table(Console(file=screen, width=width), "demo", rows)
    assert "…" not in "".join(line for line in screen.getvalue().splitlines() if "npo" in line)
    assert "-12.3" in screen.getvalue()
    assert ("±1.5" in screen.getvalue()) == (width >= 140)
