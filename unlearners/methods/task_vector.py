"""Task arithmetic: learn the forget set, then go the other way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .. import losses
from ..base import Unlearner
from ..registry import register_unlearner
from ..validation import POSITIVE, check

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from ..data import Batch
    from ..reference import Reference


@register_unlearner("task_vector")
@dataclass(frozen=True, kw_only=True)
class TaskVector(Unlearner):
    """Subtract what overfitting on the forget set adds (arXiv 2212.04089; MUSE, Sec. 4.1).

    The model is trained on the forget set to theta_overfit; the result is
    ``theta - alpha * (theta_overfit - theta)``.

    Attributes:
        alpha: how far to go.
    """

    alpha: float = 5.0

    def __post_init__(self) -> None:
        """Check the parameter."""
        check(self, {"alpha": POSITIVE})

    def loss(
        self, model: PreTrainedModel, batch: Batch, reference: Reference
    ) -> Mapping[str, torch.Tensor]:
        """NLL of the forget windows."""
        ids = batch.forget.input_ids
        forget = losses.token_nll(model(input_ids=ids).logits, ids)
        return {"loss": forget, "forget": forget}

    def edit(self, original: torch.Tensor, trained: torch.Tensor) -> torch.Tensor:
        """Step away from the overfit weight."""
        return original - self.alpha * (trained - original)
