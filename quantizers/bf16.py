"""The identity: the checkpoint as saved."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from ._registry import register_quantizer
from .base import Quantizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@register_quantizer("bf16")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Unquantized(Quantizer):
    """The checkpoint as saved, unquantized.

    Named after the dtype in which the models of the literature are saved. No weight is cast: a
    checkpoint saved in float32 is evaluated in float32.
    """

    def __call__(self, model: PreTrainedModel) -> PreTrainedModel:
        """Return ``model`` itself."""
        return model
