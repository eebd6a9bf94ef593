"""Task arithmetic: learn the forget set, then subtract the update."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import PositiveFloat

from .. import losses
from ..base import Unlearner
from ..registry import register_unlearner

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from ..data import Batch
    from ..reference import Reference


@register_unlearner("task_vector")
@dataclass(frozen=True, kw_only=True)
class TaskVector(Unlearner):
    """Negation of a task vector (arXiv 2212.04089; MUSE, arXiv 2407.06460, Sec. 4.1).

    The model is trained on the forget set to theta_overfit; the result is
    ``theta - alpha * (theta_overfit - theta)``.

    Attributes:
        alpha: Scale of the subtracted update, above 0.
    """

    alpha: PositiveFloat = 5.0

    def loss(
        self, model: PreTrainedModel, batch: Batch, reference: Reference
    ) -> Mapping[str, torch.Tensor]:
        """Compute the token-mean NLL of the forget windows."""
        ids = batch.forget.input_ids
        forget = losses.token_nll(model(input_ids=ids).logits, ids)
        return {"loss": forget, "forget": forget}

    def edit(self, original: torch.Tensor, trained: torch.Tensor) -> torch.Tensor:
        """Subtract the scaled update; all weights float32 and of one shape."""
        return original - self.alpha * (trained - original)
