"""Pairs of weight matrices of two models of one architecture."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from .architecture import stacked
from .base import Quantizer
from .errors import QuantizerError
from .layers import LinearLayer, check_finite, linear_layers


class LayerPair(NamedTuple):
    """Matrix of a layer, or of one expert, in the target and in the unlearned model.

    Attributes:
        before: Layer of the target.
        after: Layer of the unlearned model.
    """

    before: LinearLayer
    after: LinearLayer

    @property
    def name(self) -> str:
        """Name of the layer in both models; experts that share a tensor share the name."""
        return self.after.name

    def weights(self) -> tuple[Tensor, Tensor]:
        """Return both weights, (outputs, inputs), on the device of the unlearned model."""
        old, new = self.before.weight.detach(), self.after.weight.detach()
        old = old.to(new.device)
        return (old, new) if self.after.axis else (old.T, new.T)

    def dequantized(self, quantizer: Quantizer, model: PreTrainedModel) -> Tensor | None:
        """Dequantize the matrix of a quantized model.

        Args:
            quantizer: Quantizer of the model.
            model: Quantized form of one of the two models.

        Returns:
            (outputs, inputs) of a floating-point dtype on the device of `weights`; None if
            `Quantizer.dequantize` returns None.

        Raises:
            QuantizerError: The model has no such layer, or its weight has another shape.
        """
        layer = self.after
        module_name = self.name
        if layer.parameter != "weight":
            module_name = module_name.removesuffix(f".{layer.parameter}")
        try:
            module = model.get_submodule(module_name)
        except AttributeError:
            raise QuantizerError(
                f"the quantized {type(model).__name__} has no layer '{self.name}'; give the "
                "unlearned model in its quantized form"
            ) from None
        if layer.expert is None:
            weight = quantizer.dequantize(module)
            transposed = isinstance(module, Conv1D)
        else:
            weight = quantizer.dequantize(module, layer.parameter)
            transposed = layer.axis == 0
        if weight is None:
            return None
        if layer.expert is not None:
            weight = stacked(layer.module, weight)[layer.expert]
        weight = weight.detach().T if transposed else weight.detach()
        expected = layer.weight if layer.axis else layer.weight.T
        if weight.shape != expected.shape:
            raise QuantizerError(
                f"{type(quantizer).__name__}.dequantize gives a weight of shape "
                f"{tuple(weight.shape)} for '{self.name}'; it must be {tuple(expected.shape)}, "
                "outputs × inputs"
            )
        return weight.to(expected.device)


def layer_pairs(target: PreTrainedModel, unlearned: PreTrainedModel) -> list[LayerPair]:
    """Pair the linear layers of two unquantized models, apart from the output head.

    Args:
        target: Model before unlearning.
        unlearned: Model after unlearning, adapters merged.

    Raises:
        QuantizerError: The models differ in dtype, shapes or layers, or a weight is offloaded.
    """
    before, after = (
        {(layer.name, layer.expert): layer for layer in linear_layers(model)}
        for model in (target, unlearned)
    )
    for key in before | after:
        old, new = (_describe(layers.get(key)) for layers in (before, after))
        if old != new:
            raise QuantizerError(
                f"'{key[0]}' is {old} in the target but {new} in the unlearned model; compare "
                "models of one architecture, loaded in one dtype"
            )
    for layer in (*before.values(), *after.values()):
        if layer.weight.is_meta:
            check_finite(layer.name, layer.weight)
    return [LayerPair(before[key], after[key]) for key in before]


def _describe(layer: LinearLayer | None) -> str:
    if layer is None:
        return "missing"
    dtype = str(layer.weight.dtype).removeprefix("torch.")
    return f"{dtype} {' × '.join(map(str, layer.weight.shape))}"
