"""Gradient ascent on the forget set, alone or with a retain loss (GA, GA+GDR, GA+KLR)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .. import losses
from ..registry import register_unlearner
from ._retain_loss import WithRetainLoss

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from ..data import Batch
    from ..reference import Reference


@register_unlearner("ga", retain="none")
@register_unlearner("ga_gdr", retain="gdr")
@register_unlearner("ga_klr", retain="klr")
@dataclass(frozen=True, kw_only=True)
class GradientAscent(WithRetainLoss):
    """Gradient ascent on the forget set (arXiv 2210.01504).

    Loss: ``-NLL(forget) + retain_weight * R``, where NLL is a token mean and R is the token-mean
    NLL (``gdr``) or KL(p_ref || p_theta) (``klr``) on the retain set. The forget term has no lower
    bound.
    """

    def forget_loss(
        self, model: PreTrainedModel, batch: Batch, reference: Reference
    ) -> torch.Tensor:
        """Compute the negated NLL of the forget windows."""
        ids = batch.forget.input_ids
        return -losses.token_nll(model(input_ids=ids).logits, ids)
