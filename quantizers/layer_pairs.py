"""Weight matrices of two models of one architecture, and their form in a quantized model."""

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
    """A matrix of the target, of a layer or of one expert, and the same of the unlearned model."""

    before: LinearLayer
    after: LinearLayer

    @property
    def name(self) -> str:
        """Name of the layer in both models; experts of one tensor share theirs."""
        return self.after.name

    def weights(self) -> tuple[Tensor, Tensor]:
        """Both weights, outputs × inputs, on the device of the unlearned model."""
        old, new = self.before.weight.detach(), self.after.weight.detach()
        old = old.to(new.device)
        return (old, new) if self.after.axis else (old.T, new.T)

    def dequantized(self, quantizer: Quantizer, model: PreTrainedModel) -> Tensor | None:
        """The matrix in a quantized model, in the layout and on the device of `weights`.

        Args:
            quantizer: Quantizer of the model.
            model: Quantized form of one of the two models.

        Returns:
            A matrix of a floating dtype, or None where `Quantizer.dequantize` gives None.

        Raises:
            QuantizerError: the model has no such layer, or its weight has another shape.
        """
        layer = self.after
        place = self.name
        if layer.parameter != "weight":
            place = place.removesuffix(f".{layer.parameter}")
        try:
            module = model.get_submodule(place)
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

    Raises:
        QuantizerError: the models differ in dtype, shapes or layers, or a weight is offloaded.
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
