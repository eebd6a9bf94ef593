"""Estimate of the remaining time of a run."""

from pathlib import Path
from typing import Any

import pytest

from leaderboard.config import RunConfig
from leaderboard.execution.runner import to_do
from leaderboard.execution.time_left import Estimate, estimate
from leaderboard.grid.plan import make_plan
from leaderboard.records.schema import Seconds


@pytest.fixture
def plan(small_world: Any) -> Any:
    return make_plan(RunConfig.model_validate(small_world.config()))


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
