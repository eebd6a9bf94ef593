from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from leaderboard.cli import app
from leaderboard.config import (
    RunConfig,
    load_config,
    parse,
)
from leaderboard.errors import InputError
from leaderboard.grid.plan import make_plan
from leaderboard.grid.sweep import SweepConfig, load_sweep, select
from leaderboard.records.store import read_records
from leaderboard.standings.table import build_table

SEARCH = {
    "method": "npo_gdr",
    "finetuning": "lora",
    "fixed": {"params": {"beta": 0.2}},
    "grid": {"training.learning_rate": [1e-4, 1e-3], "finetuning_params.rank": [4, 8]},
}


def test_trials_are_the_whole_grid_on_the_selection_half(small_world: Any) -> None:
    content = small_world.config(search=[SEARCH])
    del content["unlearn"]
    trials = parse(SweepConfig, content, "sweep").trials()
    assert trials.evaluation.subset == "validation"
    assert [
        (entry.params, entry.training["learning_rate"], entry.finetuning_params["rank"])
        for entry in trials.unlearn
    ] == [({"beta": 0.2}, rate, rank) for rate in (1e-4, 1e-3) for rank in (4, 8)]


def test_joined_places_change_together(small_world: Any) -> None:
    joined = {"finetuning_params.rank, finetuning_params.alpha": [[4, 4], [8, 16]]}
    content = small_world.config(search=[SEARCH | {"grid": joined}])
    del content["unlearn"]
    trials = parse(SweepConfig, content, "sweep").trials()
    assert [entry.finetuning_params for entry in trials.unlearn] == [
        {"rank": 4, "alpha": 4},
        {"rank": 8, "alpha": 16},
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"search": []}, "search: List should have at least 1 item"),
        (
            {"search": [SEARCH | {"grid": {"rank": [1]}}]},
            "search.0: 'rank': expected params.<name>",
        ),
        (
            {"search": [SEARCH | {"grid": {"params.a, params.b": [[1, 2], 3]}}]},
            "search.0: 'params.a, params.b': 3 is not a list of 2 values",
        ),
        ({"evaluation": {"subset": "test"}}, "a sweep sets"),
    ],
)
def test_wrong_searches(small_world: Any, changes: dict[str, Any], message: str) -> None:
    content = small_world.config(search=[SEARCH]) | {"unlearn": []} | changes
    with pytest.raises(InputError, match=message):
        parse(SweepConfig, content, "sweep")


def test_rule(small_world: Any, make: Any) -> None:
    """The best at int4 among those that forgot, whatever was better unquantized."""
    content = small_world.config(
        unlearn=[
            {"method": "npo_gdr", "finetuning": "lora", "training": {"learning_rate": rate}}
            for rate in (1e-5, 1e-4, 1e-3)
        ]
    )
    plan = make_plan(parse(RunConfig, content, "grid"))
    trained = [planned for planned in plan if planned.recipe]
    zero = plan[0].cells[0].cell.retrain_auc

    def at(training: Any, precision: str, values: tuple[float, ...], limit: int = 6) -> Any:
        record = make("npo_gdr", precision, values)
        changes = {"training": training, "limit": limit, "retrain_auc": zero}
        return record.model_copy(update={"cell": record.cell.model_copy(update=changes)})

    results = {
        0: {"none": (20.0, 30.0, 0.0, 80.0), "rtn-int4": (95.0, 75.0, 0.0, 80.0)},  # came back
        1: {"none": (50.0, 45.0, 0.0, 60.0), "rtn-int4": (50.0, 45.0, 0.0, 60.0)},
        2: {"none": (50.0, 45.0, 0.0, 70.0), "rtn-int4": (50.0, 45.0, 0.0, 70.0)},
    }
    references = {"target": (100.0, 80.0, -100.0, 80.0), "retrain": (20.0, 30.0, 0.0, 78.0)}
    records = [
        at(planned.training, precision, references[planned.training.method])
        for planned in plan
        if not planned.recipe
        for precision in ("none", "rtn-int4")
    ] + [
        at(trained[number].training, precision, values)
        for number, by_precision in results.items()
        for precision, values in by_precision.items()
    ]
    best = {"npo_gdr": (20.0, 30.0, 0.0, 80.0)} | references
    elsewhere = [  # the second setting on other examples, in the same folder
        at(planned.training, "rtn-int4", best[planned.training.method], limit=3)
        for planned in (*plan[:2], trained[1])
    ]
    entries, (line,) = select(build_table([*records, *elsewhere]), plan)
    assert [entry.training["learning_rate"] for entry in entries] == [1e-3]
    assert "npo_gdr lora: learning_rate 0.001, score" in line

    came_back = [
        r
        for r in records
        if r.cell.training
        in (trained[0].training, *(planned.training for planned in plan if not planned.recipe))
    ]
    entries, (line,) = select(build_table(came_back), plan)
    assert [entry.training["learning_rate"] for entry in entries] == [1e-5]
    assert line.endswith("at rtn-int4")

    remembered = [r for r in came_back if r.cell.training.is_reference or r.is_quantized]
    remembered.append(at(trained[0].training, "none", (95.0, 75.0, 0.0, 80.0)))
    entries, (line,) = select(build_table(remembered), plan)
    assert [entry.training["learning_rate"] for entry in entries] == [1e-5]
    assert line.endswith("at rtn-int4; no setting forgot")

    unscored = [r for r in came_back if r.cell.training.method != "retrain"]
    entries, (line,) = select(build_table(unscored), plan)
    assert entries == []
    assert line.endswith("no setting has a score; none is chosen")


def test_sweep_writes_a_grid_for_the_other_half(small_world: Any, tmp_path: Path) -> None:
    content = small_world.config(
        search=[SEARCH | {"grid": {"training.learning_rate": [1e-4, 1e-3]}}]
    )
    del content["unlearn"]
    config = tmp_path / "sweep.yaml"
    config.write_text(yaml.safe_dump(content))
    folder = tmp_path / "run"
    result = CliRunner().invoke(app, ["sweep", str(config), "--out", str(folder)])
    assert result.exit_code == 0, result.output
    records = read_records(folder)
    assert len(records) == 8  # (2 references + 2 trials) × 2 precisions
    assert {record.cell.subset for record in records} == {"validation"}
    chosen = load_config(folder / "chosen.yaml")
    assert chosen.evaluation.subset == "test"
    assert chosen.name == "small-final"
    make_plan(chosen)


CONFIGS = Path(__file__).parents[3] / "leaderboard" / "configs"


@pytest.mark.parametrize("name", ["paper_books", "paper_news"])
def test_paper_grids_resolve(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Table II's cells: six methods with full finetuning, four with LoRA."""
    corpus = name.removeprefix("paper_")
    (tmp_path / corpus).mkdir()
    monkeypatch.setenv("MUSE_DATA_DIR", str(tmp_path))
    plan = make_plan(load_config(CONFIGS / f"{name}.yaml"))
    trained = [planned.training for planned in plan if planned.recipe]
    assert [t.finetuning for t in trained].count("full") == 6
    assert [t.finetuning for t in trained].count("lora") == 4
    by_cell = {(t.method, t.finetuning): t for t in trained}
    assert by_cell["npo_gdr", "full"].settings["learning_rate"] == 1e-5
    for training in trained:  # DeepSpeed's float32 master weights under bf16, without clipping
        settings = training.settings
        assert (settings["weights_dtype"], settings["mixed_precision"]) == ("float32", "bf16")
        assert settings["max_grad_norm"] == 0
        assert settings["batch_size"] * settings["gradient_accumulation_steps"] == 16
        assert training.dtype == "bfloat16"
    assert by_cell["ga_klr", "lora"].params["retain_weight"] == 100
    rank_alpha = {
        "paper_books": {"ga_gdr": (16, 16), "npo_gdr": (64, 128), "npo_klr": (16, 32)},
        "paper_news": {"ga_gdr": (64, 64), "npo_gdr": (16, 16), "npo_klr": (64, 128)},
    }
    for method, expected in rank_alpha[name].items():
        found = by_cell[method, "lora"].finetuning_params
        assert (found["rank"], found["alpha"]) == expected


def test_paper_search_is_the_papers() -> None:
    """2 learning rates × 2 epochs × 12 (rank, α) × 3 targets, for four methods; λ is fixed."""
    search = load_sweep(CONFIGS / "paper_search.yaml")
    assert len(search.trials().unlearn) == 4 * 2 * 2 * 12 * 3
