"""Scores of the retrained model in a file."""

from pathlib import Path
from typing import Any

import pytest

from harness_tasks.corpora.retrained import check_auc, checked_scores, scores_auc
from harness_tasks.errors import CorpusError

PATH = Path("retrain_auc.json")
SCORES = {"forget": [-1.0, -3.0], "holdout": [-2.0, -4.0]}


def test_auc_by_hand() -> None:
    """Holdout above forget in one of four pairs: −2 > −3."""
    assert scores_auc(SCORES) == 0.25
    check_auc(SCORES, 0.25, PATH)
    with pytest.raises(CorpusError, match=r"retrain_auc is 0\.3, the AUC of its scores is 0\.25"):
        check_auc(SCORES, 0.3, PATH)


def test_whole_numbers_become_floats() -> None:
    content = {"scores": {"forget": [-1, -3], "holdout": [-2, -4]}}
    assert checked_scores(content, PATH, lambda split: 2) == SCORES


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "expected"),
        ({"scores": {"forget": [1.0]}}, "expected"),
        ({"scores": SCORES | {"holdout": [1.0, "x"]}}, "scores/holdout, entry 1, is not a finite"),
        ({"scores": SCORES | {"holdout": [1.0, True]}}, "scores/holdout, entry 1, is not a finite"),
        ({"scores": SCORES | {"forget": [1.0]}}, "scores/forget has 1 scores, .* has 2 texts"),
    ],
)
def test_wrong_content(content: Any, message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        checked_scores(content, PATH, lambda split: 2)
