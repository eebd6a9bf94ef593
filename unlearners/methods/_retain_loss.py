"""Retain losses, and the base class of methods that take one of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pydantic import NonNegativeFloat

from .. import losses
from ..base import Unlearner
from ..errors import UnlearnerError
from ..method import Need

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from ..data import Batch
    from ..reference import Reference

Retain = Literal["none", "gdr", "klr"]
"""No retain loss, gradient descent on the retain set, or KL divergence from the reference there."""

NEEDS: dict[Retain, frozenset[Need]] = {
    "none": frozenset(),
    "gdr": frozenset({"retain"}),
    "klr": frozenset({"retain", "retain_logits"}),
}


def add_retain_loss(
    forget: torch.Tensor,
    retain: Retain,
    retain_weight: float,
    model: PreTrainedModel,
    batch: Batch,
    reference: Reference,
) -> Mapping[str, torch.Tensor]:
    """Add a weighted retain loss to a forget loss.

    Args:
        forget: Forget loss, a scalar.
        retain: Kind of retain loss R: token-mean NLL (``"gdr"``), or KL(p_ref || p_theta)
            (``"klr"``), both on the retain windows of the batch.
        retain_weight: Weight λ of the retain loss.
        model: Model in training.
        batch: Batch of the forget loss.
        reference: Reference, with logits for ``"klr"``.

    Returns:
        ``"loss"``, forget + λ R, and the terms ``"forget"`` and ``"retain"``; scalars.
    """
    if retain == "none":
        return {"loss": forget, "forget": forget}
    ids = batch.retain.input_ids
    if retain == "gdr":
        value = losses.token_nll(model(input_ids=ids).logits, ids)
    else:
        reference_logits = reference.logits(batch.retain)
        value = losses.kl(reference_logits, model(input_ids=ids).logits, ids)
    return {"loss": forget + retain_weight * value, "forget": forget, "retain": value}


@dataclass(frozen=True, kw_only=True)
class WithRetainLoss(Unlearner):
    """Base of methods with an optional retain loss, which the registered name chooses.

    Attributes:
        retain: Retain loss, fixed by the registered name.
        retain_weight: Weight λ of the retain loss, at least 0.
    """

    retain: Retain = "none"
    retain_weight: NonNegativeFloat = 1.0

    def __post_init__(self) -> None:
        """Validate every field; refuse a retain weight without a retain loss."""
        super().__post_init__()
        if self.retain == "none" and self.retain_weight != 1:
            raise UnlearnerError(
                f"retain_weight={self.retain_weight} has no effect without a retain loss: "
                "use the method's _gdr or _klr variant"
            )

    @property
    def needs(self) -> frozenset[Need]:
        """Inputs of the retain loss."""
        return NEEDS[self.retain]

    def forget_loss(
        self, model: PreTrainedModel, batch: Batch, reference: Reference
    ) -> torch.Tensor:
        """Compute the forget loss of one batch, a scalar.

        Args:
            model: Model in training.
            batch: Batch with the forget windows.
            reference: Quantities of the reference model.
        """
        raise NotImplementedError

    def loss(
        self, model: PreTrainedModel, batch: Batch, reference: Reference
    ) -> Mapping[str, torch.Tensor]:
        """Compute the forget loss plus the weighted retain loss."""
        forget = self.forget_loss(model, batch, reference)
        return add_retain_loss(forget, self.retain, self.retain_weight, model, batch, reference)
