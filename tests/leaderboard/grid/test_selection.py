"""Some cells of a grid, and how long the rest will take."""

from pathlib import Path
from typing import Any

import pytest

from leaderboard.config import RunConfig
from leaderboard.errors import InputError
from leaderboard.execution.runner import to_do
from leaderboard.execution.time_left import Estimate, estimate
from leaderboard.grid.plan import make_plan
from leaderboard.grid.selection import label, select
from leaderboard.records.schema import Seconds


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


def test_estimate_by_hand(plan: Any, make: Any, tmp_path: Path) -> None:
    """Left: both cells of target, retrain and npo_gdr lora, and the training of the last.

    Known: bf16 takes 2 and 4 seconds, mean 3; rtn-int4 1 + 9 = 10; a LoRA training 30.
    3 × (3 + 10) + 30 = 69. Without the int4 record its three cells take the mean of all, 3.
    """

    def timed(method: str, precision: str, seconds: Seconds) -> Any:
        record = make(method, precision, finetuning="lora")
        changed = record.provenance.model_copy(update={"seconds": seconds})
        return record.model_copy(update={"provenance": changed})

    bf16 = [
        timed("ga", "none", Seconds(training=30, quantizing=0, evaluating=2)),
        timed("target", "none", Seconds(training=None, quantizing=0, evaluating=4)),
    ]
    int4 = timed("ga", "rtn-int4", Seconds(training=None, quantizing=1, evaluating=9))
    chains = to_do(plan, tmp_path)
    assert estimate(chains, set(), [*bf16, int4]) == Estimate(69, 0)
    assert estimate(chains, set(), bf16) == Estimate(48, 0)
    trained = {job.planned.training.stem for chain in chains for job in chain}
    assert estimate(chains, trained, [*bf16, int4]) == Estimate(39, 0)
    assert estimate(chains, set(), bf16[1:]) == Estimate(24, 1)
    assert estimate(chains, set(), []) == Estimate(0, 7)
