import json
from pathlib import Path
from typing import Any

import pytest
import yaml

import leaderboard
from leaderboard.config import RunConfig, load_config, parse
from leaderboard.errors import InputError
from leaderboard.grid.plan import make_plan
from leaderboard.grid.sweep import SweepConfig

CONFIGS = Path(leaderboard.__file__).parent / "configs"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"nmae": 1}, "nmae: Extra inputs are not permitted"),
        ({"seeds": ["one"]}, "seeds.0: Input should be a valid integer"),
        ({"evaluation": {"batch_size": 0}}, "evaluation.batch_size: .*greater than or equal to 1"),
        ({"precisions": []}, "precisions: List should have at least 1 item"),
        ({"unlearn": [{"finetuning": "lora"}]}, "unlearn.0.method: Field required"),
        ({"name": "../../etc"}, "name: String should match pattern"),
    ],
)
def test_wrong_settings_are_named_with_their_place(
    small_world: Any, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=f"^grid.yaml: {message}"):
        parse(RunConfig, small_world.config(**changes), "grid.yaml")


def entry(**changes: Any) -> dict[str, Any]:
    return {"unlearn": [{"method": "npo_gdr", "finetuning": "lora"} | changes]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"precisions": ["rtn-in4"]}, r"precisions.0: unknown quantizer 'rtn-in4': did you mean"),
        ({"precisions": ["none", "none"]}, "precisions: none is given twice"),
        (entry(method="npo_grd"), r"unlearn.0: unknown unlearner 'npo_grd': did you mean npo_gdr"),
        (entry(finetuning="dora"), "unlearn.0: unknown finetuning 'dora': available: full, lora"),
        (entry(params={"bta": 1}), "unlearn.0: unlearner 'npo_gdr' has no parameter 'bta'"),
        (entry(finetuning_params={"rank": 0}), "unlearn.0: .*rank"),
        (entry(training={"epohcs": 3}), "unlearn.0.training: unknown setting 'epohcs'"),
        (entry(training={"epochs": 0}), r"unlearn.0.training\.epochs: "),
        (entry(corpora=["books"]), "unlearn.0.corpora: 'books' is not among corpora"),
        ({"corpora": ["no-such"]}, "unknown corpus 'no-such'"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_runs(
    small_world: Any, changes: dict[str, Any], message: str
) -> None:
    config = parse(RunConfig, small_world.config(**changes), "grid.yaml")
    with pytest.raises(ValueError, match=message) as caught:
        make_plan(config)
    assert "\n" not in str(caught.value)


def test_corpus_folder_needs_a_target(small_world: Any) -> None:
    config = parse(RunConfig, small_world.config(corpora=[str(small_world.corpus)]), "grid.yaml")
    with pytest.raises(InputError, match="needs `target:`"):
        make_plan(config)


def test_folder_that_is_no_model(small_world: Any, tmp_path: Path) -> None:
    corpora = [{"name": str(small_world.corpus), "target": {"path": str(tmp_path)}}]
    config = parse(RunConfig, small_world.config(corpora=corpora), "grid.yaml")
    with pytest.raises(InputError, match=r"is not a model folder: it has no config\.json"):
        make_plan(config)


def test_hub_model_needs_its_commit(small_world: Any) -> None:
    corpora = [{"name": str(small_world.corpus), "target": {"path": "org/model"}}]
    config = parse(RunConfig, small_world.config(corpora=corpora), "grid.yaml")
    with pytest.raises(InputError, match="full commit"):
        make_plan(config)


def test_plan_resolves_the_whole_grid(small_world: Any) -> None:
    config = parse(RunConfig, small_world.config(seeds=[0, 1]), "grid.yaml")
    plan = make_plan(config)
    assert [planned.training.method for planned in plan] == [
        "target",
        "retrain",
        "npo_gdr",
        "npo_gdr",
    ]
    assert [planned.training.seed for planned in plan[2:]] == [0, 1]
    training = plan[2].training
    assert training.params["beta"] == 0.1
    assert training.finetuning_params["rank"] == 16
    assert training.settings["max_steps"] == 2
    stems = [cell.cell.stem for planned in plan for cell in planned.cells]
    assert len(set(stems)) == len(stems) == 8


def test_published_corpora_have_published_models(tmp_path: Path) -> None:
    (tmp_path / "news").mkdir()
    config = parse(
        RunConfig,
        {
            "name": "news",
            "corpora": [{"name": "news", "data_dir": str(tmp_path)}],
            "precisions": ["none"],
        },
        "grid.yaml",
    )
    target, retrain = make_plan(config)
    assert target.training.model.name == "muse-bench/MUSE-News_target"
    assert retrain.training.model.revision.startswith("324ef49e")


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        load_config(tmp_path / "none.yaml")
    bad = tmp_path / "bad.yaml"
    bad.write_text("a: [1,\n")
    with pytest.raises(InputError, match="not YAML") as caught:
        load_config(bad)
    assert "\n" not in str(caught.value)
    bad.write_text("- 1\n")
    with pytest.raises(InputError, match="top level"):
        load_config(bad)


def test_own_target_has_no_published_retrain(small_world: Any, tmp_path: Path) -> None:
    (tmp_path / "news").mkdir()
    target = {"path": str(small_world.target)}
    corpora = [{"name": "news", "data_dir": str(tmp_path), "target": target}]
    config = parse(RunConfig, small_world.config(corpora=corpora, unlearn=[]), "grid.yaml")
    assert [planned.training.method for planned in make_plan(config)] == ["target"]


@pytest.mark.parametrize(("kind", "model"), [("run", RunConfig), ("sweep", SweepConfig)])
def test_schema_for_editors_is_current(kind: str, model: Any) -> None:
    """`lm-eval-muse schema KIND > leaderboard/configs/KIND.schema.json` mends it."""
    schema = json.loads((CONFIGS / f"{kind}.schema.json").read_text(encoding="utf-8"))
    assert schema == model.model_json_schema()


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_configurations_are_valid_and_name_their_schema(path: Path) -> None:
    kind = "sweep" if "search" in path.stem else "run"
    text = path.read_text(encoding="utf-8")
    assert text.startswith(f"# yaml-language-server: $schema={kind}.schema.json\n")
    parse(SweepConfig if kind == "sweep" else RunConfig, yaml.safe_load(text), path.name)
