"""Retain losses, shared by the methods that preserve utility with one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import torch

from .. import losses
from ..errors import UnlearnerError
from ..method import Need

if TYPE_CHECKING:
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


def check_retain_weight(retain: Retain, retain_weight: float) -> None:
    """Refuse a retain weight without a retain loss.

    Raises:
        UnlearnerError: The weight would have no effect.
    """
    if retain == "none" and retain_weight != 1:
        raise UnlearnerError(
            f"retain_weight={retain_weight} has no effect without a retain loss: "
            "use the method's _gdr or _klr variant"
        )


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
