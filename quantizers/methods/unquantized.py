"""Identity."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

from ..base import Quantizer
from ..registry import register_quantizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@register_quantizer("none")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Unquantized(Quantizer):
    """Leave the model unchanged, in the dtype in which it was loaded."""

    bits: ClassVar[None] = None

    def __call__(self, model: PreTrainedModel) -> PreTrainedModel:
        """Return ``model`` itself."""
        return model
