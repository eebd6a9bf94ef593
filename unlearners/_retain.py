"""Retain losses, shared by the methods that keep utility with one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import torch

from . import losses
from .base import Need, UnlearnerError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from ._data import Batch
    from .reference import Reference

# none, gradient descent on the retain set, or KL to the reference there
Retain = Literal["none", "gdr", "klr"]
NEEDS: dict[Retain, frozenset[Need]] = {
    "none": frozenset(),
    "gdr": frozenset({"retain"}),
    "klr": frozenset({"retain", "retain_logits"}),
}


def check_retain(retain: Retain, retain_weight: float) -> None:
    """Refuse a weight that is negative or has nothing to weigh.

    Raises:
        UnlearnerError: naming the parameter.
    """
    if retain not in NEEDS:
        raise UnlearnerError(f"retain={retain!r}: expected {', '.join(NEEDS)}")
    if retain_weight < 0:
        raise UnlearnerError(f"retain_weight={retain_weight}: expected a number of at least 0")
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
