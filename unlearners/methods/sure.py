"""SURE: NPO in the most salient rows only, for a large learning rate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, NonNegativeFloat, PositiveFloat

from ..base import Unlearner
from ..method import Need, Objective
from ..registry import register_unlearner
from ._retain_loss import NEEDS, add_retain_loss
from .npo import npo_forget

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from ..data import Batch, Windows
    from ..reference import Reference


@register_unlearner("sure")
@dataclass(frozen=True, kw_only=True)
class SURE(Unlearner):
    """Saliency-based unlearning with a large learning rate (arXiv 2410.16454).

    NPO with gradient descent on the retain set, in the rows of weight matrices in which the
    gradient of the forget set's NLL at the target model has the largest L2 norm. All other rows
    and all vectors (norms, biases) are unchanged to the bit. With LoRA, rows of B are selected,
    which are the rows of the update.

    Attributes:
        percentile: Percentile of the rows' gradient norms above which rows are trained, 0 to
            below 100.
        retain_weight: Weight λ of the retain loss, at least 0.
        beta: Inverse temperature of NPO, above 0.
    """

    percentile: Annotated[float, Field(ge=0, lt=100)] = 90.0
    retain_weight: NonNegativeFloat = 1.0
    beta: PositiveFloat = 0.1

    @property
    def needs(self) -> frozenset[Need]:
        """Log-probabilities of the reference, and retain windows."""
        return NEEDS["gdr"] | {"forget_log_probs"}

    def loss(
        self, model: PreTrainedModel, batch: Batch, reference: Reference
    ) -> Mapping[str, torch.Tensor]:
        """Compute the NPO loss of the forget windows plus the weighted NLL on the retain ones."""
        forget = npo_forget(model, batch, reference, self.beta)
        return add_retain_loss(forget, "gdr", self.retain_weight, model, batch, reference)

    def begin(self, model: PreTrainedModel, forget: Windows) -> Objective:
        """Select the rows to train and return an objective that holds the others."""
        from ._row_mask import MaskedRows, salient_rows

        return MaskedRows(self, salient_rows(model, forget, self.percentile))
