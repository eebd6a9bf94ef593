"""Sections that a row of the page opens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from leaderboard.records.samples import Sample
from leaderboard.records.schema import Record
from leaderboard.records.store import RunFolder, read_records
from leaderboard.report.details import reported_details, row_details
from leaderboard.standings.published import Reported
from leaderboard.standings.table import build_table

MakeRecord = Callable[..., Record]


def details(folder: Path, records: list[Record], answers: list[Sample] | None = None) -> Any:
    """Sections of the only row, by title."""
    run = RunFolder(folder / "run", "run")
    for record in records:
        run.write_record(record, answers or ())
    (row,) = build_table(read_records(run.path))
    return {section["title"]: section for section in row_details(row, run.path)}


def answer(example: int, score: float, **texts: str) -> Sample:
    return Sample(task="verbmem", example=example, score=score, **texts)


def test_most_remembered_and_most_forgotten_answers(make: MakeRecord, tmp_path: Path) -> None:
    """Five answers: the best three, then the other two, worst first; equal ones by example."""
    scores = [10.0, 70.0, 40.0, 70.0, float("nan"), 0.0]
    answers = [answer(n, score, response=f"answer {n}") for n, score in enumerate(scores)]
    found = details(tmp_path, [make("npo")], answers)
    shown = {
        title: [(text["response"], text["score"]) for text in found[title]["answers"]]
        for title in ("VerbMem, most remembered", "VerbMem, most forgotten")
    }
    assert shown == {
        "VerbMem, most remembered": [
            ("answer 1", "70.0"),
            ("answer 3", "70.0"),
            ("answer 2", "40.0"),
        ],
        "VerbMem, most forgotten": [("answer 5", "0.0"), ("answer 0", "10.0")],
    }
    assert not any(title.startswith("KnowMem") for title in found), "nothing was asked"


def test_texts_are_cut_and_visible(make: MakeRecord, tmp_path: Path) -> None:
    """160 characters from a prompt's end, 500 from the start of an answer; line breaks stay."""
    texts = {"prompt": "p" + "q" * 160, "response": "r" * 501, "reference": "a\nb\u202e"}
    found = details(tmp_path, [make("npo")], [answer(0, 1.0, **texts)])
    assert found["VerbMem, most remembered"]["answers"] == [
        {
            "prompt": "…" + "q" * 160,
            "reference": "a\nb\\u202e",
            "response": "r" * 500 + "…",
            "score": "1.0",
        }
    ]


def test_scores_of_each_seed(make: MakeRecord, tmp_path: Path) -> None:
    """VerbMem 20 and 30: mean 25, its error √(1.5² + 5²); no empty section."""
    records = [make("npo", values=(20.0 + 10 * n, None, None, None), seed=n) for n in (0, 1)]
    found = details(tmp_path, records)
    header, line = found["Scores"]["table"]
    assert header == ["", "all seeds", "seed 0", "seed 1"]
    assert line == ["VerbMem ↓", "25.0 ±5.2", "20.0", "30.0"]
    assert found["Method"]["facts"] == [["name", "npo"]]
    assert found["Runs"]["table"][:2] == [["", "seed 0", "seed 1"], ["status", "done", "done"]]
    assert ["retrain AUC", "0.5", "0.5"] in found["Runs"]["table"]
    assert "Other tasks" not in found and "Calibration" not in found


def test_failure_is_the_first_remark(make: MakeRecord, tmp_path: Path) -> None:
    failed = make("npo", values=(None,) * 4, status="failed", reason="no memory\u202e")
    found = details(tmp_path, [failed])
    assert found[""]["remarks"][0] == "failed: no memory\\u202e"
    assert "Scores" not in found


def test_published_row_says_where_it_is_from() -> None:
    row = Reported(
        source="Table 2",
        corpus="news",
        method="npo",
        finetuning="full",
        precision="bf16",
        verbmem=12.5,
        rank=8,
    )
    remark, facts = reported_details(row)
    assert remark["remarks"][0].startswith("Reported: numbers from publications")
    assert facts["title"] == "As reported"
    shown = dict(facts["facts"])
    assert (shown["source"], shown["verbmem"], shown["rank"]) == ("Table 2", "12.5", "8")
    assert "knowmem" not in shown
