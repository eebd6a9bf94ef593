"""Batches of lm-eval's batch size."""

from types import SimpleNamespace
from typing import Any

import pytest

from harness_tasks.batching import in_batches, progress_bar


def batches(lm: Any, items: list[int], **options: Any) -> list[list[int]]:
    seen: list[list[int]] = []
    in_batches(lm, items, lambda batch: seen.append([*batch]), **options)
    return seen


@pytest.mark.parametrize(
    ("limit", "wanted"), [(None, [[1, 2], [3, 4], [5]]), (1, [[1], [2], [3], [4], [5]])]
)
def test_batch_size(limit: int | None, wanted: list[list[int]]) -> None:
    assert batches(SimpleNamespace(batch_size=2), [1, 2, 3, 4, 5], limit=limit) == wanted


def test_no_items() -> None:
    assert batches(SimpleNamespace(batch_size=2), []) == []


def test_auto_takes_smaller_batches_after_running_out_of_memory() -> None:
    """Nothing is processed twice, and nothing is left out."""
    seen: list[list[int]] = []

    def run(batch: Any) -> None:
        if len(batch) > 2:
            raise RuntimeError("CUDA out of memory.")
        seen.append([*batch])

    in_batches(SimpleNamespace(batch_size="auto", max_batch_size=8), [*range(5)], run)  # type: ignore[arg-type]
    assert [item for batch in seen for item in batch] == [0, 1, 2, 3, 4]
    assert all(len(batch) <= 2 for batch in seen)


def test_progress_bar_of_the_model_comes_first() -> None:
    bar = object()
    assert progress_bar(SimpleNamespace(progress_bar=bar)) is bar  # type: ignore[arg-type]
