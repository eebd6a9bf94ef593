"""Some cells of a grid, and how long the rest will take."""

from typing import Any

import pytest

from leaderboard.config import RunConfig
from leaderboard.errors import InputError
from leaderboard.grid.plan import make_plan
from leaderboard.grid.selection import label, select


def labels(plan: Any) -> list[str]:
    return [label(cell.cell).partition("--")[2] for planned in plan for cell in planned.cells]


@pytest.fixture
def plan(small_world: Any) -> Any:
    return make_plan(RunConfig.model_validate(small_world.config()))


@pytest.mark.parametrize(
    ("only", "exclude", "left"),
    [
        ([], [], 6),
        (["*--npo_gdr--*"], [], 2),
        (["*--npo_gdr--*", "*--target--*"], ["*rtn*"], 2),
        ([], ["*--lora--*", "*--none--none--*"], 2),
    ],
)
def test_patterns(plan: Any, only: list[str], exclude: list[str], left: int) -> None:
    assert len(labels(plan)) == 6
    assert len(labels(select(plan, only, exclude))) == left


def test_names_that_patterns_see(plan: Any) -> None:
    assert labels(select(plan, ["*npo_gdr*int4*"])) == ["npo_gdr--lora--rtn-int4--seed0"]


def test_a_hash_tells_two_settings_apart(small_world: Any) -> None:
    """Both have the same name but for it."""
    config = small_world.config()
    (entry,) = config["unlearn"]
    twin = {**entry, "training": {**entry.get("training", {}), "weights_dtype": "bfloat16"}}
    plan = make_plan(RunConfig.model_validate({**config, "unlearn": [entry, twin]}))
    assert len(labels(select(plan, ["*--npo_gdr--*"]))) == 4
    stem = next(cell.cell.stem for cell in plan[-1].cells)
    (left,) = [cell for planned in select(plan, [stem]) for cell in planned.cells]
    assert left.cell.stem == stem


@pytest.mark.parametrize(("only", "exclude"), [(["*gdr"], []), ([], ["quanto"])])
def test_pattern_without_a_cell(plan: Any, only: list[str], exclude: list[str]) -> None:
    pattern = (only + exclude)[0]
    with pytest.raises(InputError, match=rf"'{pattern.replace('*', '.')}' matches no cell; .*lora"):
        select(plan, only, exclude)
