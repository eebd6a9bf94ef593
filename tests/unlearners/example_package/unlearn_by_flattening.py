"""Flatten: raise the entropy of predictions on the forget set, train on the retain set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from pydantic import NonNegativeFloat

from unlearners import Batch, Need, Reference, Unlearner, losses

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True, kw_only=True)
class Flatten(Unlearner):
    """Minimise the negative entropy on forget windows plus ``retain_weight`` x NLL on retain.

    Attributes:
        retain_weight: Weight of the retain loss, at least 0.
    """

    retain_weight: NonNegativeFloat = 1.0

    @property
    def needs(self) -> frozenset[Need]:
        """Retain windows, in addition to the forget windows."""
        return frozenset({"retain"})

    def loss(
        self, model: PreTrainedModel, batch: Batch, reference: Reference
    ) -> Mapping[str, torch.Tensor]:
        """Compute both terms and their weighted sum."""
        log_probs = model(input_ids=batch.forget.input_ids).logits.float().log_softmax(-1)
        forget = (log_probs.exp() * log_probs).sum(-1).mean()
        ids = batch.retain.input_ids
        retain = losses.token_nll(model(input_ids=ids).logits, ids)
        return {"loss": forget + self.retain_weight * retain, "forget": forget, "retain": retain}
