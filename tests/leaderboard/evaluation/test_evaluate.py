"""Choice of examples, and other tasks of lm-eval."""

import pytest

from leaderboard.config import Evaluation
from leaderboard.errors import InputError
from leaderboard.evaluation.evaluate import check_extra_tasks, extra_metrics, subset_indices
from leaderboard.records.schema import Metric


def test_halves_share_nothing_and_leave_nothing() -> None:
    """Pairs take turns, so that both halves of PrivLeak have forget and holdout texts."""
    halves = [subset_indices(10, Evaluation(subset=half)) for half in ("validation", "test")]
    assert halves == [[0, 1, 4, 5, 8, 9], [2, 3, 6, 7]]
    assert subset_indices(10, Evaluation()) == list(range(10))
    assert subset_indices(10, Evaluation(subset="test", limit=3)) == [2, 3, 6]


@pytest.mark.parametrize(
    ("name", "message"),
    [("arc_eazy", r"no task 'arc_eazy'; nearest: .*arc_easy"), ("qqqqqq", "`lm_eval ls tasks`")],
)
def test_unknown_extra_task(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_extra_tasks([name])


def test_extra_metrics() -> None:
    """Texts, NaN and errors aside; a filter is a part of the name."""
    row = {
        "alias": "task",
        "acc,none": 0.5,
        "acc_stderr,none": 0.1,
        "f1,strict": 0.25,
        "f1_stderr,strict": "N/A",
        "nan,none": float("nan"),
    }
    assert extra_metrics({"results": {"task": row}}) == {
        "task/acc": Metric(value=0.5, stderr=0.1),
        "task/f1,strict": Metric(value=0.25, stderr=None),
    }
