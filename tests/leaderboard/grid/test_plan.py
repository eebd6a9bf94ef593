from typing import Any

import pytest

from leaderboard.config import RunConfig, parse
from leaderboard.grid.plan import make_plan


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
        (entry(training={"epochs": 0}), r"unlearn.0.training\.epochs=0: "),
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
