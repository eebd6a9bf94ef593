"""Negative preference optimization, alone or with a retain loss (NPO, NPO+GDR, NPO+KLR)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import PositiveFloat

from .. import losses
from ..method import Need
from ..registry import register_unlearner
from ._retain_loss import WithRetainLoss

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
class NPO(WithRetainLoss):
    """Negative preference optimization (arXiv 2404.05868, Eq. 3; arXiv 2602.13151, Eq. 1).

    Loss: ``-(2 / beta) log sigmoid(-beta * log(P_theta(y) / P_ref(y))) + retain_weight * R``, where
    P is the probability of a whole window and R the retain loss as in gradient ascent.

    Attributes:
        beta: Inverse temperature, above 0; towards 0 the gradient becomes that of ascent.
    """

    beta: PositiveFloat = 0.1

    @property
    def needs(self) -> frozenset[Need]:
        """Log-probabilities of the reference, and inputs of the retain loss."""
        return super().needs | {"forget_log_probs"}

    def forget_loss(
        self, model: PreTrainedModel, batch: Batch, reference: Reference
    ) -> torch.Tensor:
        """Compute the NPO loss of the forget windows."""
        return npo_forget(model, batch, reference, self.beta)
