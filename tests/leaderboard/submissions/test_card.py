"""README of a submission."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from leaderboard.records.schema import Record, Seconds
from leaderboard.submissions.card import submission_card


def test_readme_says_what_was_done_and_what_came_out(packed: Any) -> None:
    readme = (packed.folder / "README.md").read_text()
    assert readme.startswith("# bounded\\_ascent\n")
    assert "````text\nGradient ascent on the forget set, up to a bound: `limit` nats" in readme
    assert "| method: limit | 5.0 |" in readme
    assert "| finetuning: alpha | 32 |" in readme
    assert "No sweep is part of this submission" in readme
    assert (
        "lm-eval-muse run config.yaml --out ../repeated --plugin source/bounded_ascent.py" in readme
    )
    assert f"| torch | {version('torch')} |" in readme
    for row in (
        "target | — | float32",
        "retrain | — | rtn-int4",
        "bounded\\_ascent | lora | rtn-int4",
    ):
        assert f"| {row} | " in readme


def test_hostile_text_in_a_readme_is_shown(make: Any) -> None:
    """Method and docstring that would break out of Markdown and HTML."""
    readme = submission_card(
        method="<script>|",
        documentation="a\n```\n# not a title",
        source="x",
        plugins=[],
        entries=[],
        searched=[],
        local=[],
        records=[make("<img src=x>")],
    )
    assert "<script>" not in readme and "<img" not in readme
    assert "````text\na\n```\n# not a title\n````" in readme


def measured(record: Record, training: float | None, memory: int, device: str) -> Record:
    """Give a record times, memory and a device."""
    seconds = Seconds(training=training, quantizing=0.5, evaluating=2.25)
    changes = {"seconds": seconds, "peak_rss_mib": memory, "device": device}
    return record.model_copy(update={"provenance": record.provenance.model_copy(update=changes)})


def test_times_are_sums_over_the_precisions_of_a_checkpoint(make: Any) -> None:
    """Quantizing 0.5 + 0.5, evaluating 2.25 + 2.25, the larger of two peaks; both devices."""
    readme = submission_card(
        method="npo",
        documentation="",
        source="x",
        plugins=["source/a.py", "source/b.py"],
        entries=[],
        searched=[],
        local=["corpus", "model"],
        records=[
            measured(make("npo", "none"), 12.0, 300, "cpu"),
            measured(make("npo", "rtn-int4"), None, 200, "cuda"),
            measured(make("retrain"), None, 100, "cpu"),
        ],
    )
    assert " | 12.0 | 1.0 | 4.5 | 300 |" in readme
    assert " | — | 0.5 | 2.2 | 100 |" in readme
    assert "| Device | cpu; cuda |" in readme
    assert "and with these folders in it: corpus, model:" in readme
    assert " --out ../repeated --plugin source/a.py --plugin source/b.py\n" in readme
