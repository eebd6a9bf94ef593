"""Work through a list in batches of the size that lm-eval was given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from accelerate import find_executable_batch_size
from tqdm import tqdm

if TYPE_CHECKING:
    from lm_eval.models.huggingface import HFLM

# Tokens that go through a model at once at most: beyond, a CPU gets slower and a GPU no faster.
BATCH_TOKENS = 2**12

T = TypeVar("T")


def progress_bar(lm: HFLM) -> Callable[..., Any]:
    """What shows how far a list of requests is: tqdm, unless ``lm`` brings something else."""
    return getattr(lm, "progress_bar", tqdm)


def in_batches(
    lm: HFLM, items: Sequence[T], run: Callable[[Sequence[T]], None], most: int | None = None
) -> None:
    """Call ``run`` on one batch after the other.

    The size is ``lm.batch_size``; ``"auto"`` starts from ``lm.max_batch_size`` and takes smaller
    batches where memory runs out.

    Args:
        lm: the model, for its batch size.
        items: what to work through, the largest first.
        run: does the work of a batch; called again with fewer items where it ran out of memory.
        most: size beyond which batches gain nothing.
    """
    done = 0

    def run_all(batch_size: int) -> None:
        nonlocal done
        while done < len(items):
            run(items[done : done + batch_size])
            done += batch_size

    most = max(1, most or len(items))
    if lm.batch_size == "auto":
        find_executable_batch_size(run_all, min(lm.max_batch_size, most))()
    else:
        run_all(min(lm.batch_size, most))
