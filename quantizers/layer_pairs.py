"""Layers of two models of one architecture, and their weights in a quantized model."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from .base import Quantizer, QuantizerError
from .linear import LinearLayer, check_finite, linear_layers


class LayerPair(NamedTuple):
    """A layer of the target and the same layer of the unlearned model."""

    before: LinearLayer
    after: LinearLayer

    @property
    def name(self) -> str:
        """Dotted name of the module in both models."""
        return self.after.name

    def weights(self) -> tuple[Tensor, Tensor]:
        """Both weights, outputs × inputs, on the device of the unlearned model."""
        old, new = self.before.weight.detach(), self.after.weight.detach()
        old = old.to(new.device)
        return _by_outputs(self.before.module, old), _by_outputs(self.after.module, new)

    def dequantized(self, quantizer: Quantizer, model: PreTrainedModel) -> Tensor | None:
        """Weight of this layer in a quantized model, in the layout and on the device of `weights`.

        Args:
            quantizer: Quantizer of the model.
            model: Quantized form of one of the two models.

        Returns:
            A matrix of a floating dtype, or None where `Quantizer.dequantize` gives None.

        Raises:
            QuantizerError: the model has no such layer, or its weight has another shape.
        """
        try:
            module = model.get_submodule(self.name)
        except AttributeError:
            raise QuantizerError(
                f"the quantized {type(model).__name__} has no layer '{self.name}'; give the "
                "unlearned model in its quantized form"
            ) from None
        weight = quantizer.dequantize(module)
        if weight is None:
            return None
        weight = _by_outputs(module, weight.detach())
        expected = _by_outputs(self.after.module, self.after.weight)
        if weight.shape != expected.shape:
            raise QuantizerError(
                f"{type(quantizer).__name__}.dequantize gives a weight of shape "
                f"{tuple(weight.shape)} for '{self.name}'; it must be {tuple(expected.shape)}, "
                "outputs × inputs"
            )
        return weight.to(expected.device)


def layer_pairs(target: PreTrainedModel, unlearned: PreTrainedModel) -> list[LayerPair]:
    """Pair the linear layers of two unquantized models, apart from the output head.

    Raises:
        QuantizerError: the models differ in dtype, shapes or layers, or a weight is offloaded.
    """
    before = {layer.name: layer for layer in linear_layers(target)}
    after = {layer.name: layer for layer in linear_layers(unlearned)}
    for name in before | after:
        old, new = (_describe(layers.get(name)) for layers in (before, after))
        if old != new:
            raise QuantizerError(
                f"'{name}' is {old} in the target but {new} in the unlearned model; compare "
                "models of one architecture, loaded in one dtype"
            )
    for layer in (*before.values(), *after.values()):
        if layer.weight.is_meta:
            check_finite(layer.name, layer.weight)
    return [LayerPair(before[name], after[name]) for name in before]


def _describe(layer: LinearLayer | None) -> str:
    if layer is None:
        return "missing"
    dtype = str(layer.weight.dtype).removeprefix("torch.")
    return f"{dtype} {' × '.join(map(str, layer.weight.shape))}"


def _by_outputs(module: nn.Module, weight: Tensor) -> Tensor:
    return weight.T if isinstance(module, Conv1D) else weight
