"""Round-to-nearest with the indices stored in integers: the memory is really saved."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..checkpoint import load_checkpoint, save_checkpoint
from ..grid import Grid
from ..layers import LinearLayer, linear_layers
from ..registry import register_quantizer
from ..replaced import replaceable_layers, try_quantized
from .rtn import RoundToNearest

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedModel


@register_quantizer("rtn-int8-packed", bits=8)
@register_quantizer("rtn-int6-packed", bits=6)
@register_quantizer("rtn-int4-packed", bits=4)
@register_quantizer("rtn-int3-packed", bits=3)
@register_quantizer("rtn-int2-packed", bits=2)
@dataclasses.dataclass(frozen=True, kw_only=True)
class PackedRoundToNearest(RoundToNearest):
    """`RoundToNearest` in its packed form: 2, 4 or 8 bits per index, and the scales.

    3 bits take the room of 4, and 6 that of 8. Each forward pass dequantizes one layer at a time
    into the dtype of its input, which gives the weights of the simulated form to the last bit.
    """

    @torch.no_grad()
    def __call__(self, model: PreTrainedModel) -> PreTrainedModel:
        """Replace every linear layer by a `PackedLinear`.

        Raises:
            QuantizerError: nothing to quantize, a layer cannot be replaced (see
                `replaceable_layers`), or a weight is not finite.
        """
        name = f"rtn-int{self.bits}-packed"
        layers = replaceable_layers(model, name, skip=self.skip, head=self.quantize_head)
        while layers:  # a layer taken from the list is freed once replaced
            layer = layers.pop()
            packed = _empty(layer, self.grid, layer.weight.device)
            packed.store(layer.weight if layer.axis else layer.weight.T)
            model.set_submodule(layer.name, packed)
        return try_quantized(model, name)

    def dequantize(self, module: nn.Module, parameter: str = "weight") -> Tensor | None:
        """Return the weight of a layer, outputs × inputs, in the dtype it was quantized from."""
        if isinstance(module, PackedLinear):
            return module.dequantize(module.dtype)
        return super().dequantize(module, parameter)

    def save(self, model: PreTrainedModel, folder: Path) -> None:
        """Write a checkpoint that only `load` reads."""
        save_checkpoint(model, folder)

    def load(self, folder: Path) -> PreTrainedModel:
        """Load such a checkpoint onto the CPU."""
        return load_checkpoint(folder, self._insert)

    def _insert(self, model: PreTrainedModel) -> None:
        """Put empty `PackedLinear` modules, on the meta device, into an empty model."""
        for layer in linear_layers(model, skip=self.skip, head=self.quantize_head):
            model.set_submodule(layer.name, _empty(layer, self.grid, torch.device("meta")))


class PackedLinear(nn.Module):
    """A linear projection whose weight is stored as packed indices and scales.

    Attributes:
        indices: uint8, outputs × ⌈inputs / indices per byte⌉; the first index of a byte lies in
            its lowest bits, as two's complement.
        scales: As `Grid.scales` gives them, outputs × groups.
        bias: The layer's own, or None.
        dtype: Dtype of the weight that was packed.
    """

    indices: Tensor
    scales: Tensor
    bias: nn.Parameter | None

    def __init__(
        self,
        inputs: int,
        outputs: int,
        grid: Grid,
        bias: nn.Parameter | None,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        super().__init__()
        self.in_features, self.out_features, self.grid = inputs, outputs, grid
        self.dtype = dtype
        self.storage_bits = next(bits for bits in (2, 4, 8) if bits >= grid.bits)
        width = -(-inputs * self.storage_bits // 8)
        self.register_buffer(
            "indices", torch.empty(outputs, width, dtype=torch.uint8, device=device)
        )
        self.register_buffer(
            "scales", torch.empty(grid.scales_shape(outputs, inputs), device=device)
        )
        self.register_parameter("bias", bias)

    @property
    def weight(self) -> Tensor:
        """The weight, for models that read it; each time made anew."""
        return self.dequantize(self.dtype)

    def store(self, weight: Tensor) -> None:
        """Round ``weight`` (outputs × inputs, any floating dtype) to the grid and pack it."""
        dtype = torch.promote_types(weight.dtype, torch.float32)
        values = weight.to(dtype, copy=True, memory_format=torch.contiguous_format)
        self.scales = self.grid.scales(values)
        indices = self.grid.to_indices_(values, self.scales)
        self.indices = pack(indices.to(torch.int8), self.storage_bits)

    def dequantize(self, dtype: torch.dtype) -> Tensor:
        """The weight, outputs × inputs, in ``dtype``."""
        indices = unpack(self.indices, self.storage_bits)[:, : self.in_features]
        return self.grid.to_values_(indices.to(self.scales.dtype), self.scales).to(dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the projection to ``x`` (… × inputs), in its dtype."""
        return F.linear(x, self.dequantize(x.dtype), self.bias)

    def extra_repr(self) -> str:
        """Sizes and grid, for ``print(model)``."""
        return f"in_features={self.in_features}, out_features={self.out_features}, {self.grid}"


def pack(indices: Tensor, bits: int) -> Tensor:
    """Pack signed ``indices`` (int8, rows × columns) into uint8, 8/``bits`` of them to a byte."""
    per_byte = 8 // bits
    padded = F.pad(indices, (0, -indices.shape[1] % per_byte))
    fields = (padded & (2**bits - 1)).view(torch.uint8).unflatten(1, (-1, per_byte))
    packed = fields[..., 0].clone()
    for place in range(1, per_byte):
        packed |= fields[..., place] << (bits * place)
    return packed


def unpack(packed: Tensor, bits: int) -> Tensor:
    """Undo `pack`: int8, rows × as many columns as the bytes hold."""
    # Shifted to the top of the byte and back, a field brings its sign along.
    tops = [packed << (8 - bits - place) for place in range(0, 8, bits)]
    return torch.stack(tops, dim=-1).view(torch.int8).flatten(1) >> (8 - bits)


def _empty(layer: LinearLayer, grid: Grid, device: torch.device) -> PackedLinear:
    inputs = layer.weight.shape[layer.axis]
    outputs = layer.weight.shape[1 - layer.axis]
    bias: nn.Parameter | None = layer.module.bias  # type: ignore[assignment]
    return PackedLinear(inputs, outputs, grid, bias, layer.weight.dtype, device)
