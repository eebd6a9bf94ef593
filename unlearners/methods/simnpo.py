"""Simple negative preference optimization, alone or with a retain loss (SimNPO)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import PositiveFloat

from .. import losses
from ..registry import register_unlearner
from ._retain_loss import WithRetainLoss

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from ..data import Batch
    from ..reference import Reference


@register_unlearner("simnpo", retain="none")
@register_unlearner("simnpo_gdr", retain="gdr")
@dataclass(frozen=True, kw_only=True)
class SimNPO(WithRetainLoss):
    """NPO with a length-normalised likelihood and without a reference model (arXiv 2410.07163).

    Loss: ``-(2 / beta) log sigmoid(beta * (NLL / length - delta)) + retain_weight * R``, where NLL
    is that of a whole window and R the retain loss as in gradient ascent.

    Attributes:
        beta: Inverse temperature, above 0.
        delta: Margin of the reward, in nats per token.
    """

    beta: PositiveFloat = 4.5
    delta: float = 0.0

    def forget_loss(
        self, model: PreTrainedModel, batch: Batch, reference: Reference
    ) -> torch.Tensor:
        """Compute the SimNPO loss of the forget windows."""
        ids = batch.forget.input_ids
        mean_nll = losses.sequence_mean_nll(model(input_ids=ids).logits, ids)
        return losses.simnpo(mean_nll, self.beta, self.delta)
