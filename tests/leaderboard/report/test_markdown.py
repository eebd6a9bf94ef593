"""``table.md``."""

from collections.abc import Callable

from leaderboard.records.schema import Metric, Record
from leaderboard.report.markdown import markdown
from leaderboard.standings.published import read_published
from leaderboard.standings.table import build_table

MakeRecord = Callable[..., Record]


def scored(record: Record, **extra: float) -> Record:
    """The record with scores of other tasks."""
    metrics = {f"arc/{name}": Metric(value=value, stderr=0.01) for name, value in extra.items()}
    return record.model_copy(update={"extra": metrics})


def test_other_tasks_have_a_section(make: MakeRecord) -> None:
    """0.5 and 0.7: mean 0.6, its error √(0.01² + 0.1²); one that a seed lacks has no number."""
    records = [
        scored(make("npo"), acc=0.5, f1=0.1),
        scored(make("npo", seed=1), acc=0.7),
    ]
    rows = build_table(records)
    assert rows[0].extra.keys() == {"arc/acc"}
    section = markdown("t", rows).split("### news, other tasks")[1]
    assert "| Method | Finetuning | Precision | arc/acc |" in section
    assert "| npo | full | float32 | 0.600 ±0.100 |" in section


def test_hostile_names_stay_text(make: MakeRecord) -> None:
    rows = build_table([make("<script>alert(1)</script> | [bold]x[/bold] \u202e\x1b[31m")])
    text = markdown("t", rows)
    assert "<script>" not in text
    assert r"\|" in text
    assert "\u202e" not in text
    assert r"\\u202e" in text


def test_reported_rows_have_tables_of_their_own(make: MakeRecord) -> None:
    """Published rows have tables of their own and leave the measured table unchanged."""
    rows = build_table([make("npo_gdr")])
    reported = read_published(["news"])
    text = markdown("t", rows, reported=reported)
    before, after = text.split("### news, reported")
    assert before.rstrip() in markdown("t", rows)
    assert "arXiv:2407.06460 (MUSE)" in after
    assert "| target | none | bf16 |" in after
