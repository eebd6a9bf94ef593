"""Scalability and sustainability: plan, parents of the stages, and report."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from leaderboard.config import RunConfig, parse
from leaderboard.errors import InputError
from leaderboard.execution.runner import Runner
from leaderboard.grid.plan import make_plan
from leaderboard.progress import Progress
from leaderboard.records.schema import Metric, SuiteStage
from leaderboard.records.store import RunFolder, read_records
from leaderboard.report.markdown import markdown
from leaderboard.report.suites import suites_markdown
from leaderboard.standings.table import build_table


def test_growing_sets_start_from_the_target_successive_ones_from_each_other(
    small_world: Any,
) -> None:
    plan = make_plan(parse(RunConfig, small_world.config(suites=["scal", "sust"]), "grid"))
    stages = [planned for planned in plan if planned.training.stage]
    assert [planned.training.corpus.forget for planned in stages] == [
        f"{suite}/forget_{stage}" for suite in ("scal", "sust") for stage in (1, 2, 3, 4)
    ]
    assert [planned.parent for planned in stages[:5]] == [None] * 5
    assert [planned.parent for planned in stages[5:]] == stages[4:7]
    stems = {planned.training.stem for planned in plan}
    assert len(stems) == len(plan)
    assert any("--lora--sust3--" in stem for stem in stems)


@pytest.fixture(scope="module")
def folder(small_world: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = parse(RunConfig, small_world.config(suites=["sust"], precisions=["none"]), "grid")
    store = RunFolder(tmp_path_factory.mktemp("runs") / "run", config.name)
    outcome = Runner(config, store, Progress(Console(file=io.StringIO()))).run(make_plan(config))
    assert outcome.done == 7  # target, retrain, the whole forget set, four stages
    return store.path


def test_each_stage_continues_from_the_last(folder: Path) -> None:
    """The training of a stage starts with the weights of the stage before."""
    folders = {path.name.split("--")[3]: path for path in folder.glob("checkpoints/*sust*")}
    assert sorted(folders) == ["sust1", "sust2", "sust3", "sust4"]
    met = [
        json.loads((folders[f"sust{n}"] / "training" / "run.json").read_text())["sha256"]["model"]
        for n in (1, 2, 3, 4)
    ]
    assert len(set(met)) == 4


def test_records_of_stages_have_their_metrics(folder: Path) -> None:
    records = [r for r in read_records(folder) if r.cell.training.stage]
    assert len(records) == 4
    for record in records:
        assert {"utility", "exact_memorization", "extraction_strength"} <= record.metrics.keys()


def test_stages_have_a_section_of_their_own(folder: Path) -> None:
    records = read_records(folder)
    rows = build_table(records)
    assert len(rows) == 3
    text = markdown("t", rows, records)
    assert "## Sustainability" in text
    assert "## Scalability" not in text


def test_a_missing_stage_has_no_number(make: Any) -> None:
    records = []
    for number, utility in ((1, 70.0), (2, 60.0), (4, 50.0)):
        record = make("npo")
        training = record.cell.training.model_copy(
            update={"stage": SuiteStage(suite="scal", number=number, parent=None)}
        )
        metrics = {
            "utility": Metric(value=utility, stderr=None),
            "exact_memorization": Metric(value=9.0, stderr=None),
        }
        cell = record.cell.model_copy(update={"training": training})
        records.append(record.model_copy(update={"cell": cell, "metrics": metrics}))
    line = "| news | npo | full | float32 | 70.0 | 60.0 | — | 50.0 | 9.0 | 9.0 | — | 9.0 |"
    assert line in suites_markdown(records)


def test_stages_evaluated_in_two_ways_are_two_lines(make: Any) -> None:
    record = make("npo")
    training = record.cell.training.model_copy(
        update={"stage": SuiteStage(suite="sust", number=1, parent=None)}
    )
    cells = [record.cell.model_copy(update={"training": training, "limit": n}) for n in (None, 5)]
    stages = [record.model_copy(update={"cell": cell}) for cell in cells]
    assert "| news, first 5 examples | npo |" in suites_markdown(stages)
    with pytest.raises(InputError, match="two records are of the same cell"):
        suites_markdown([stages[0], stages[0]])
