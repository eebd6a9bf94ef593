"""Weight-only quantization by optimum-quanto."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from ..base import Quantizer
from ..checkpoint import load_checkpoint, save_checkpoint
from ..layers import as_linear, linear_layers
from ..registry import register_quantizer
from ..replaced import replaceable_layers, try_quantized

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedModel


@register_quantizer("quanto-int8", weights="int8")
@register_quantizer("quanto-int4", weights="int4")
@register_quantizer("quanto-int2", weights="int2")
@register_quantizer("quanto-float8", weights="float8")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Quanto(Quantizer):
    """Quantize linear layers with optimum-quanto and freeze them.

    int8 and float8 (e4m3) are symmetric with one scale per output; int4 and int2 are affine in
    groups of the largest of 128, 96, 64 and 32 input features that divides their number, or else
    per output. Scales are in the model's dtype. ``Conv1D`` layers become ``nn.Linear``.

    Attributes:
        weights: Dtype of the quantized weights.
        skip: Shell-style patterns of names of modules that are not quantized.
        quantize_head: Quantize the output head too.
    """

    weights: Literal["int8", "int4", "int2", "float8"]
    skip: tuple[str, ...] = ()
    quantize_head: bool = False

    @property
    def bits(self) -> int:
        """Bits per weight without scales."""
        return {"int8": 8, "int4": 4, "int2": 2, "float8": 8}[self.weights]

    @torch.no_grad()
    def __call__(self, model: PreTrainedModel) -> PreTrainedModel:
        """Replace every linear layer by quanto's ``QLinear``, its weight quantized and frozen.

        Raises:
            QuantizerError: Nothing to quantize, a layer cannot be replaced (see
                `replaceable_layers`), or a weight is not finite.
        """
        from optimum.quanto import freeze

        replaceable_layers(model, "quanto", skip=self.skip, head=self.quantize_head)
        self._insert(model)
        freeze(model)
        return try_quantized(model, "quanto")

    def dequantize(self, module: nn.Module, parameter: str = "weight") -> Tensor | None:
        """Return the weight of a layer, (outputs, inputs), in the dtype of its scales."""
        from optimum.quanto import QLinear

        if isinstance(module, QLinear):
            return module.weight.dequantize()
        return super().dequantize(module, parameter)

    def save(self, model: PreTrainedModel, folder: Path) -> None:
        """Write a checkpoint that only `load` reads."""
        save_checkpoint(model, folder)

    def load(self, folder: Path) -> PreTrainedModel:
        """Load a saved checkpoint onto the CPU."""
        return load_checkpoint(folder, self._insert)

    def _insert(self, model: PreTrainedModel) -> None:
        """Replace linear layers by ``QLinear`` modules with unquantized weights."""
        from optimum.quanto import quantize

        _unpack_without_compiler()
        names = []
        layers = linear_layers(model, skip=self.skip, head=self.quantize_head)
        while layers:  # a layer taken from the list is freed once replaced
            layer = layers.pop()
            names.append(layer.name)
            if layer.axis == 0:
                model.set_submodule(layer.name, as_linear(layer))
        quantize(
            model, weights=f"q{self.weights}", optimizer=_optimizer(self.weights), include=names
        )


def _optimizer(weights: str) -> Any:
    """Return quanto's own optimizer of scales, with 1 in place of 0.

    With a scale of 0 an all-zero row would become NaN in float8, and depend on the device's cast
    of NaN to integers in other dtypes.
    """
    from optimum.quanto import AbsmaxOptimizer, MaxOptimizer

    class NonZeroAbsmax(AbsmaxOptimizer):
        def optimize(self, *args: Any, **kwargs: Any) -> torch.Tensor:
            scale = super().optimize(*args, **kwargs)
            return torch.where(scale == 0, 1, scale)

    class NonZeroMax(MaxOptimizer):
        def optimize(self, *args: Any, **kwargs: Any) -> tuple[torch.Tensor, torch.Tensor]:
            scale, shift = super().optimize(*args, **kwargs)
            return torch.where(scale == 0, 1, scale), shift

    return NonZeroMax() if weights in ("int4", "int2") else NonZeroAbsmax()


def _unpack_without_compiler() -> None:
    """Unpack int4 and int2 on CPU with PyTorch's operators.

    Otherwise quanto compiles the same from C++ at the first forward pass, which takes a minute and
    fails without a compiler.
    """
    from optimum.quanto.library.extensions import get_extension

    def unpack(packed: torch.Tensor, bits: int) -> torch.Tensor:
        mask = 2**bits - 1
        return torch.cat([(packed >> shift) & mask for shift in range(0, 8, bits)])

    get_extension("quanto_cpp")._lib = SimpleNamespace(unpack=unpack)
