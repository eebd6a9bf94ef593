"""Negative preference optimization, alone or with a retain loss (NPO, NPO+GDR, NPO+KLR)."""

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


def npo_forget(
    model: PreTrainedModel, batch: Batch, reference: Reference, beta: float
) -> torch.Tensor:
    """Compute the NPO loss of the forget windows (arXiv 2404.05868, Eq. 3).

    Args:
        model: Model in training.
        batch: Batch with the forget windows.
        reference: Reference with the log-probabilities of the forget windows.
        beta: Inverse temperature.

    Returns:
        A scalar, the mean over the windows.
    """
    ids = batch.forget.input_ids
    log_probs = losses.sequence_log_probs(model(input_ids=ids).logits, ids)
    return losses.npo(log_probs - reference.log_probs(batch.forget), beta)


@register_unlearner("npo", retain="none")
@register_unlearner("npo_gdr", retain="gdr")
@register_unlearner("npo_klr", retain="klr")
@dataclass(frozen=True, kw_only=True)
class NPO(Unlearner):
    """Negative preference optimization (arXiv 2404.05868, Eq. 3; arXiv 2602.13151, Eq. 1).

    Loss: ``-(2 / beta) log sigmoid(-beta * log(P_theta(y) / P_ref(y))) + retain_weight * R``, where
    P is the probability of a whole window and R the retain loss as in gradient ascent.

    Attributes:
        retain: Retain loss, fixed by the registered name.
        retain_weight: Weight λ of the retain loss, at least 0.
        beta: Inverse temperature, above 0; towards 0 the gradient becomes that of ascent.
    """

    retain: Retain = "none"
    retain_weight: NonNegativeFloat = 1.0
    beta: PositiveFloat = 0.1

    def __post_init__(self) -> None:
        """Validate every field; refuse a retain weight without a retain loss."""
        super().__post_init__()
        check_retain_weight(self.retain, self.retain_weight)

    @property
    def needs(self) -> frozenset[Need]:
        """Log-probabilities of the reference, and inputs of the retain loss."""
        return NEEDS[self.retain] | {"forget_log_probs"}

    def loss(
        self, model: PreTrainedModel, batch: Batch, reference: Reference
    ) -> Mapping[str, torch.Tensor]:
        """Compute the NPO loss of the forget windows plus the weighted retain loss."""
        forget = npo_forget(model, batch, reference, self.beta)
        return add_retain_loss(forget, self.retain, self.retain_weight, model, batch, reference)
