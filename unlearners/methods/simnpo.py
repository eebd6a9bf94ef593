"""Simple negative preference optimization, alone or with a retain loss (SimNPO)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import NonNegativeFloat, PositiveFloat

from .. import losses
from ..base import Unlearner
from ..method import Need
from ..registry import register_unlearner
from ._retain_loss import NEEDS, Retain, add_retain_loss, check_retain_weight

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from ..data import Batch
    from ..reference import Reference


@register_unlearner("simnpo", retain="none")
@register_unlearner("simnpo_gdr", retain="gdr")
@dataclass(frozen=True, kw_only=True)
class SimNPO(Unlearner):
    """NPO with a length-normalised likelihood and without a reference model (arXiv 2410.07163).

    Loss: ``-(2 / beta) log sigmoid(beta * (NLL / length - delta)) + retain_weight * R``, where NLL
    is that of a whole window and R the retain loss as in gradient ascent.

    Attributes:
        retain: Retain loss, fixed by the registered name.
        retain_weight: Weight λ of the retain loss, at least 0.
        beta: Inverse temperature, above 0.
        delta: Margin of the reward, in nats per token.
    """

    retain: Retain = "none"
    retain_weight: NonNegativeFloat = 1.0
    beta: PositiveFloat = 4.5
    delta: float = 0.0

    def __post_init__(self) -> None:
        """Validate every field; refuse a retain weight without a retain loss."""
        super().__post_init__()
        check_retain_weight(self.retain, self.retain_weight)

    @property
    def needs(self) -> frozenset[Need]:
        """Inputs of the retain loss."""
        return NEEDS[self.retain]

    def loss(
        self, model: PreTrainedModel, batch: Batch, reference: Reference
    ) -> Mapping[str, torch.Tensor]:
        """Compute the SimNPO loss of the forget windows plus the weighted retain loss."""
        ids = batch.forget.input_ids
        mean_nll = losses.sequence_mean_nll(model(input_ids=ids).logits, ids)
        forget = losses.simnpo(mean_nll, self.beta, self.delta)
        return add_retain_loss(forget, self.retain, self.retain_weight, model, batch, reference)
