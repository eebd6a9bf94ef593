"""Round-to-nearest quantization of every linear layer and expert (Eq. 2 of arXiv 2602.13151)."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Literal

import torch
from pydantic import Field, PositiveInt

from ..base import Quantizer
from ..grid import Grid
from ..layers import check_finite, linear_layers
from ..registry import register_quantizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@register_quantizer("rtn-int8", bits=8)
@register_quantizer("rtn-int6", bits=6)
@register_quantizer("rtn-int4", bits=4)
@register_quantizer("rtn-int3", bits=3)
@register_quantizer("rtn-int2", bits=2)
@dataclasses.dataclass(frozen=True, kw_only=True)
class RoundToNearest(Quantizer):
    """Simulate weight-only integer quantization (arXiv 2602.13151, Eq. 2).

    Weights are rounded to an N-bit integer grid and kept in the model's dtype. The results are
    those of inference that dequantizes into that dtype; memory and speed do not change. See `Grid`
    for the formulas. Experts that share a tensor are rounded like separate linear layers.

    Attributes:
        bits: Bits per weight, 2 to 8.
        group_size: Number of consecutive input features that share a scale; ``"row"`` for one
            scale per output feature, ``"tensor"`` for one scale per matrix.
        restricted: Use the restricted symmetric grid, without the lowest index, instead of Eq. 2.
        skip: Shell-style patterns of modules, and of tensors of experts, that are not quantized.
        quantize_head: Quantize the output head too.
    """

    bits: Annotated[int, Field(ge=2, le=8)]
    group_size: PositiveInt | Literal["row", "tensor"] = 128
    restricted: bool = False
    skip: tuple[str, ...] = ()
    quantize_head: bool = False

    @property
    def grid(self) -> Grid:
        """The grid to which weights are rounded."""
        return Grid(bits=self.bits, group_size=self.group_size, restricted=self.restricted)

    @torch.no_grad()
    def __call__(self, model: PreTrainedModel) -> PreTrainedModel:
        """Round the weights of ``model`` in place, layer by layer.

        Raises:
            QuantizerError: Nothing to quantize, or a weight is not finite (earlier layers are
                rounded by then).
        """
        for layer in linear_layers(model, skip=self.skip, head=self.quantize_head):
            scales = self.grid.round_(layer.weight, layer.axis)
            check_finite(layer.name, scales)
        return model
