"""Gradient ascent on the forget set, alone or with a retain loss (GA, GA+GDR, GA+KLR)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import NonNegativeFloat

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


@register_unlearner("ga", retain="none")
@register_unlearner("ga_gdr", retain="gdr")
@register_unlearner("ga_klr", retain="klr")
@dataclass(frozen=True, kw_only=True)
class GradientAscent(Unlearner):
    """Gradient ascent on the forget set (arXiv 2210.01504).

    Loss: ``-NLL(forget) + retain_weight * R``, where NLL is a token mean and R is the token-mean
    NLL (``gdr``) or KL(p_ref || p_theta) (``klr``) on the retain set. The forget term has no lower
    bound.

    Attributes:
        retain: Retain loss, fixed by the registered name.
        retain_weight: Weight λ of the retain loss, at least 0.
    """

    retain: Retain = "none"
    retain_weight: NonNegativeFloat = 1.0

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
        """Compute the negated NLL of the forget windows plus the weighted retain loss."""
        ids = batch.forget.input_ids
        forget = -losses.token_nll(model(input_ids=ids).logits, ids)
        return add_retain_loss(forget, self.retain, self.retain_weight, model, batch, reference)
