"""Retain losses, shared by the methods that keep utility with one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import torch

from .. import losses
from ..errors import UnlearnerError
from ..method import Need
from ..validation import NOT_NEGATIVE, one_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from ..data import Batch
    from ..reference import Reference

# none, gradient descent on the retain set, or KL to the reference there
Retain = Literal["none", "gdr", "klr"]
NEEDS: dict[Retain, frozenset[Need]] = {
    "none": frozenset(),
    "gdr": frozenset({"retain"}),
    "klr": frozenset({"retain", "retain_logits"}),
}


RULES = {"retain": one_of(*NEEDS), "retain_weight": NOT_NEGATIVE}


def refuse_idle_weight(retain: Retain, retain_weight: float) -> None:
    """Refuse a weight that has nothing to weigh.

    Raises:
        UnlearnerError: naming it.
    """
    if retain == "none" and retain_weight != 1:
        raise UnlearnerError(
            f"retain_weight={retain_weight} has no effect without a retain loss: "
            "use the method's _gdr or _klr variant"
        )


def with_retain(
    forget: torch.Tensor,
    retain: Retain,
    retain_weight: float,
    model: PreTrainedModel,
    batch: Batch,
    reference: Reference,
) -> Mapping[str, torch.Tensor]:
    """``forget + retain_weight * retain``, and both terms."""
    if retain == "none":
        return {"loss": forget, "forget": forget}
    ids = batch.retain.input_ids
    if retain == "gdr":
        value = losses.token_nll(model(input_ids=ids).logits, ids)
    else:
        reference_logits = reference.logits(batch.retain)
        value = losses.kl(reference_logits, model(input_ids=ids).logits, ids)
    return {"loss": forget + retain_weight * value, "forget": forget, "retain": value}
