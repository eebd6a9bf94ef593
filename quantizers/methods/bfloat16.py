"""Cast to bfloat16, the dtype in which published unlearned models are saved."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

import torch

from ..base import Quantizer
from ..registry import register_quantizer

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedModel


@register_quantizer("bf16")
@dataclasses.dataclass(frozen=True, kw_only=True)
class BFloat16(Quantizer):
    """Cast all parameters to bfloat16.

    Buffers keep their dtype, since rotary frequencies in bfloat16 are too coarse for positions.
    """

    bits: ClassVar[int] = 16

    @torch.no_grad()
    def __call__(self, model: PreTrainedModel) -> PreTrainedModel:
        """Cast the floating-point parameters of ``model`` in place."""
        for parameter in model.parameters():
            if parameter.is_floating_point():
                parameter.data = parameter.data.to(torch.bfloat16)
        model.config.dtype = torch.bfloat16
        return model

    def load(self, folder: Path) -> PreTrainedModel:
        """Load a saved folder and cast it, in case it was saved in another dtype."""
        return self(super().load(folder))
