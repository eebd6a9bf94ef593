"""Process a list in batches of lm-eval's batch size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from accelerate import find_executable_batch_size
from tqdm import tqdm

if TYPE_CHECKING:
    from lm_eval.models.huggingface import HFLM

BATCH_TOKENS = 2**12
"""Maximum number of tokens per forward pass; with more, a CPU is slower and a GPU not faster."""

T = TypeVar("T")


def progress_bar(lm: HFLM) -> Callable[..., Any]:
    """Return the progress bar class for requests: that of ``lm`` if it has one, else tqdm."""
    return getattr(lm, "progress_bar", tqdm)


def in_batches(
    lm: HFLM, items: Sequence[T], run: Callable[[Sequence[T]], None], limit: int | None = None
) -> None:
    """Call ``run`` on consecutive batches of ``items``.

    The size is ``lm.batch_size``; ``"auto"`` starts from ``lm.max_batch_size`` and takes smaller
    batches after running out of memory.

    Args:
        lm: Model that has the batch size.
        items: Items to process, the largest first.
        run: Processes a batch; called again with fewer items if it ran out of memory.
        limit: Maximum batch size.
    """
    done = 0

    def run_all(batch_size: int) -> None:
        nonlocal done
        while done < len(items):
            run(items[done : done + batch_size])
            done += batch_size

    limit = max(1, limit or len(items))
    if lm.batch_size == "auto":
        find_executable_batch_size(run_all, min(lm.max_batch_size, limit))()
    else:
        run_all(min(lm.batch_size, limit))
