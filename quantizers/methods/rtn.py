"""Round-to-nearest quantization of every linear layer and expert (Eq. 2 of arXiv 2602.13151)."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Literal

import torch

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
    """Round weights to an N-bit integer grid and keep them in the model's dtype (simulated).

    The numerics are those of weight-only integer inference that dequantizes into the model's
    dtype; the model's size and speed stay as they were. See `Grid` for the formulas. Experts that
    share a tensor are rounded like linear layers of their own.

    Attributes:
        bits: Bits per weight, 2 to 8.
        group_size: Input features that share a scale, ``"row"`` or ``"tensor"``.
        restricted: Restricted symmetric grid instead of Eq. 2.
        skip: Shell-style patterns of names to leave as they are: of modules, and of tensors that
            hold experts.
        quantize_head: Quantize the output head too.
    """

    bits: int
    group_size: int | Literal["row", "tensor"] = 128
    restricted: bool = False
    skip: tuple[str, ...] = ()
    quantize_head: bool = False

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 8:
            raise ValueError(f"bits is {self.bits}; it must lie between 2 and 8")
        if isinstance(self.group_size, int) and self.group_size < 1:
            raise ValueError(
                f"group_size is {self.group_size}; use a positive number, 'row' or 'tensor'"
            )

    @property
    def grid(self) -> Grid:
        """The grid to which weights are rounded."""
        return Grid(bits=self.bits, group_size=self.group_size, restricted=self.restricted)

    @torch.no_grad()
    def __call__(self, model: PreTrainedModel) -> PreTrainedModel:
        """Round the weights of ``model`` in place, layer by layer.

        Raises:
            QuantizerError: nothing to quantize, or a weight is not finite (the model is
                changed in part by then).
        """
        for layer in linear_layers(model, skip=self.skip, head=self.quantize_head):
            scales = self.grid.round_(layer.weight, layer.axis)
            check_finite(layer.name, scales)
        return model
