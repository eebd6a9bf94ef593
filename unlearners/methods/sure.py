"""SURE: unlearn with a large learning rate, in the most salient rows only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..base import Unlearner
from ..method import Need, Objective
from ..registry import register_unlearner
from ..validation import (
    NOT_NEGATIVE,
    POSITIVE,
    Rule,
    check,
)
from ._retain_loss import NEEDS, with_retain
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

    NPO with gradient descent on the retain set, in the rows of weight matrices where the gradient
    of the forget set's NLL at the target model has the largest norm. All other rows, and all
    vectors (norms, biases), keep their bits. With LoRA, rows of B are chosen, which are the rows
    of the update.

    Attributes:
        percentile: of the rows' gradient norms (0 to below 100), above which rows are trained.
        retain_weight: lambda.
        beta: inverse temperature of NPO.
    """

    percentile: float = 90.0
    retain_weight: float = 1.0
    beta: float = 0.1

    def __post_init__(self) -> None:
        """Check the parameters."""
        percentile: Rule = (lambda v: 0 <= v < 100, "a number from 0 to below 100")
        check(self, {"percentile": percentile, "retain_weight": NOT_NEGATIVE, "beta": POSITIVE})

    @property
    def needs(self) -> frozenset[Need]:
        """The reference's log-probabilities and retain windows."""
        return NEEDS["gdr"] | {"forget_log_probs"}

    def loss(
        self, model: PreTrainedModel, batch: Batch, reference: Reference
    ) -> Mapping[str, torch.Tensor]:
        """NPO of the forget windows, plus the weighted NLL of the retain windows."""
        forget = npo_forget(model, batch, reference, self.beta)
        return with_retain(forget, "gdr", self.retain_weight, model, batch, reference)

    def begin(self, model: PreTrainedModel, forget: Windows) -> Objective:
        """Choose the rows and hold the others."""
        from ._row_mask import MaskedRows, salient_rows

        return MaskedRows(self, salient_rows(model, forget, self.percentile))
