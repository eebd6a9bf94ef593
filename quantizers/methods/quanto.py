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
    groups of 128 input features, or of the largest of 96, 64 and 32 that divides them, or else
    per output. Scales are kept in the model's dtype. ``Conv1D`` layers become ``nn.Linear``.

    Attributes:
        weights: Dtype of the quantized weights: ``"int8"``, ``"int4"``, ``"int2"`` or ``"float8"``.
        skip: Shell-style patterns of module names to leave as they are.
        quantize_head: Quantize the output head too.
    """

    weights: Literal["int8", "int4", "int2", "float8"]
    skip: tuple[str, ...] = ()
    quantize_head: bool = False

    @property
    def bits(self) -> int:
        """Bits per weight."""
        return {"int8": 8, "int4": 4, "int2": 2, "float8": 8}[self.weights]

    @torch.no_grad()
    def __call__(self, model: PreTrainedModel) -> PreTrainedModel:
        """Replace every linear layer by quanto's ``QLinear``, its weight quantized and frozen.

        Raises:
            QuantizerError: nothing to quantize, a layer cannot be replaced (see
                `replaceable_layers`), or a weight is not finite.
        """
        from optimum.quanto import freeze

        replaceable_layers(model, "quanto", skip=self.skip, head=self.quantize_head)
        self._insert(model)
        freeze(model)
        return try_quantized(model, "quanto")

    def dequantize(self, module: nn.Module, parameter: str = "weight") -> Tensor | None:
        """Return the weight of a layer, outputs × inputs, in the dtype of its scales."""
        from optimum.quanto import QLinear

        if isinstance(module, QLinear):
            return module.weight.dequantize()
        return super().dequantize(module, parameter)

    def save(self, model: PreTrainedModel, folder: Path) -> None:
        """Write a checkpoint that only `load` reads."""
        save_checkpoint(model, folder)

    def load(self, folder: Path) -> PreTrainedModel:
        """Load such a checkpoint onto the CPU."""
        return load_checkpoint(folder, self._insert)

    def _insert(self, model: PreTrainedModel) -> None:
        """Replace linear layers by ``QLinear`` modules that are not quantized yet."""
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
    """Quanto's own choice of scales, but 1 where it would be 0.

    Dividing by a zero scale makes NaN of an all-zero row in float8, and is left to how the
    device casts NaN to integers elsewhere.
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
    """Let quanto unpack int4 and int2 on CPU with PyTorch's operators.

    It would otherwise compile the same from C++ into its installation at the first forward pass:
    a minute's wait, and an error where no compiler is found.
    """
    from optimum.quanto.library.extensions import get_extension

    def unpack(packed: torch.Tensor, bits: int) -> torch.Tensor:
        mask = 2**bits - 1
        return torch.cat([(packed >> place) & mask for place in range(0, 8, bits)])

    get_extension("quanto_cpp")._lib = SimpleNamespace(unpack=unpack)
