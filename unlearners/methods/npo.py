"""Negative preference optimization, alone or with a retain loss (NPO, NPO+GDR, NPO+KLR)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .. import losses
from ..base import Unlearner
from ..method import Need
from ..registry import register_unlearner
from ..validation import POSITIVE, check
from ._retain_loss import (
    NEEDS,
    RULES,
    Retain,
    refuse_idle_weight,
    with_retain,
)

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from ..data import Batch
    from ..reference import Reference


def npo_forget(
    model: PreTrainedModel, batch: Batch, reference: Reference, beta: float
) -> torch.Tensor:
    """NPO of the forget windows: a scalar."""
    ids = batch.forget.input_ids
    log_probs = losses.sequence_log_probs(model(input_ids=ids).logits, ids)
    return losses.npo(log_probs - reference.log_probs(batch.forget), beta)


@register_unlearner("npo", retain="none")
@register_unlearner("npo_gdr", retain="gdr")
@register_unlearner("npo_klr", retain="klr")
@dataclass(frozen=True, kw_only=True)
class NPO(Unlearner):
    """Treat forget text as dispreferred (arXiv 2404.05868, Eq. 3; arXiv 2602.13151, Eq. 1).

    Loss: ``-(2 / beta) log sigmoid(-beta * log(P_theta(y) / P_ref(y))) + retain_weight * R``, P of
    the whole window, R as in gradient ascent.

    Attributes:
        retain: fixed by the registered name.
        retain_weight: lambda.
        beta: inverse temperature.
    """

    retain: Retain = "none"
    retain_weight: float = 1.0
    beta: float = 0.1

    def __post_init__(self) -> None:
        """Check the parameters."""
        check(self, RULES | {"beta": POSITIVE})
        refuse_idle_weight(self.retain, self.retain_weight)

    @property
    def needs(self) -> frozenset[Need]:
        """The reference's log-probabilities and the needs of the retain loss."""
        return NEEDS[self.retain] | {"forget_log_probs"}

    def loss(
        self, model: PreTrainedModel, batch: Batch, reference: Reference
    ) -> Mapping[str, torch.Tensor]:
        """NPO of the forget windows, plus the weighted retain loss."""
        forget = npo_forget(model, batch, reference, self.beta)
        return with_retain(forget, self.retain, self.retain_weight, model, batch, reference)
