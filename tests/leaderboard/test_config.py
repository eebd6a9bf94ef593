"""Configuration files: settings, errors, schemas."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

import leaderboard
from leaderboard.config import RunConfig, load_config, parse
from leaderboard.errors import InputError
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
def test_errors_have_the_path_of_the_setting(
    small_world: Any, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=f"^grid.yaml: {message}"):
        parse(RunConfig, small_world.config(**changes), "grid.yaml")


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
    bad.write_bytes(b"name: caf\xe9\n")
    with pytest.raises(InputError, match="not UTF-8: byte 9"):
        load_config(bad)
    with pytest.raises(InputError, match="cannot be read"):
        load_config(tmp_path / "\0")


def test_duplicate_keys(tmp_path: Path) -> None:
    path = tmp_path / "grid.yaml"
    path.write_text('name: a\ntraining: {epochs: 1, "epochs": 2}\n')
    with pytest.raises(InputError, match=r"grid\.yaml: line 2: duplicate key epochs"):
        load_config(path)


@pytest.mark.parametrize(("kind", "model"), [("run", RunConfig), ("sweep", SweepConfig)])
def test_schema_for_editors_is_current(kind: str, model: Any) -> None:
    """`lm-eval-muse schema KIND > leaderboard/configs/KIND.schema.json` updates it."""
    schema = json.loads((CONFIGS / f"{kind}.schema.json").read_text(encoding="utf-8"))
    assert schema == model.model_json_schema()


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_configurations_are_valid_and_name_their_schema(path: Path) -> None:
    kind = "sweep" if "search" in path.stem else "run"
    text = path.read_text(encoding="utf-8")
    assert text.startswith(f"# yaml-language-server: $schema={kind}.schema.json\n")
    parse(SweepConfig if kind == "sweep" else RunConfig, yaml.safe_load(text), path.name)
