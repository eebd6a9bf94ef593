"""Linear projections of a model, the layers that are quantized."""

from __future__ import annotations

from collections import Counter
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from .base import QuantizerError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


class LinearLayer(NamedTuple):
    """A linear projection found in a model.

    Attributes:
        name: The module's dotted name.
        module: An ``nn.Linear`` (weight: out × in) or transformers' ``Conv1D`` (in × out).
        axis: The dimension of ``module.weight`` that runs over input features.
    """

    name: str
    module: nn.Module
    axis: int

    @property
    def weight(self) -> nn.Parameter:
        """The layer's weight."""
        return self.module.weight  # type: ignore[return-value]


def linear_layers(
    model: PreTrainedModel, *, skip: tuple[str, ...] = (), head: bool = False
) -> list[LinearLayer]:
    """Every ``nn.Linear`` and ``Conv1D`` of ``model`` that a quantizer may replace.

    Left out are weights shared with another module (a head tied to the embeddings) and, unless
    ``head`` is set, the output head. Embeddings are no linear layers.

    Args:
        model: Its weights in float16, bfloat16, float32 or float64, or on the meta device.
        skip: Shell-style patterns of module names to leave out as well (``"*.down_proj"``).
        head: Include the output head.

    Raises:
        QuantizerError: nothing is left to quantize, a pattern matches nothing, the head is asked
            for but tied, an adapter is not merged, a weight is quantized already, or the model
            keeps its experts in fused tensors, which would silently stay as they are.
    """
    _refuse_fused_experts(model)
    owners = Counter(id(p) for m in model.modules() for p in m._parameters.values())
    output_head = model.get_output_embeddings()
    unused = set(skip)
    layers = []
    for name, module in model.named_modules():
        if not isinstance(module, nn.Linear | Conv1D):
            continue
        matching = {pattern for pattern in skip if fnmatchcase(name, pattern)}
        unused -= matching
        if matching or (module is output_head and not head):
            continue
        if owners[id(module.weight)] > 1:
            if module is output_head:
                raise QuantizerError(
                    f"the output head '{name}' shares its weight with the embeddings and cannot "
                    "be quantized alone; leave it out (quantize_head=False)"
                )
            continue
        layer = LinearLayer(name, module, axis=int(isinstance(module, nn.Linear)))
        _check_plain(layer)
        layers.append(layer)
    if unused:
        raise QuantizerError(
            f"skip pattern {sorted(unused)[0]!r} matches no linear layer of "
            f"{type(model).__name__}; names look like {_example_name(model)!r}"
        )
    if not layers:
        raise QuantizerError(
            f"nothing to quantize in {type(model).__name__}: no nn.Linear or Conv1D is left "
            "apart from the output head, tied weights and skipped modules"
        )
    return layers


def as_linear(layer: LinearLayer) -> nn.Linear:
    """The same projection as an ``nn.Linear``, for libraries that know no ``Conv1D``."""
    outputs, inputs = layer.weight.T.shape
    linear = nn.Linear(inputs, outputs, bias=True, device="meta")
    linear.weight = nn.Parameter(layer.weight.T.contiguous(), requires_grad=False)
    linear.bias = layer.module.bias  # type: ignore[assignment]
    return linear


@torch.no_grad()
def effective_weight(module: nn.Module) -> torch.Tensor:
    """Return the weight that a layer computes with.

    Args:
        module: A layer whose outputs are linear in its inputs. Without a plain floating
            ``weight`` it multiplies an identity matrix of inputs × inputs, in the dtype of its
            bias or else of its first floating tensor.

    Returns:
        ``module.weight`` where that is a plain floating parameter; otherwise outputs × inputs.

    Raises:
        QuantizerError: the layer has neither such a weight nor ``in_features``.
    """
    weight = getattr(module, "weight", None)
    if type(weight) is nn.Parameter and weight.dtype in FLOATS:
        return weight.detach()
    inputs = getattr(module, "in_features", None)
    if inputs is None:
        raise QuantizerError(
            f"{type(module).__name__} has neither a floating weight nor in_features; override "
            "dequantize in its quantizer"
        )
    tensors = dict(module.named_parameters()) | dict(module.named_buffers())
    # Zeros in place of the bias: subtracting it from the outputs would leave a rounding error.
    no_bias = {
        name: torch.zeros_like(tensor)
        for name, tensor in tensors.items()
        if name.rpartition(".")[2] == "bias"
    }
    floats = (t for t in (*no_bias.values(), *tensors.values()) if t.dtype in FLOATS)
    example = next(floats, torch.empty(0))
    identity = torch.eye(inputs, dtype=example.dtype, device=example.device)
    return torch.func.functional_call(module, no_bias, (identity,)).T


def check_finite(name: str, values: torch.Tensor) -> None:
    """Refuse a weight (or its scales) that is offloaded or holds NaN or infinity.

    Args:
        name: The module's name, for the message.
        values: Any shape and floating dtype.
    """
    if values.is_meta:
        raise QuantizerError(
            f"the weight of '{name}' is offloaded; load the whole model onto one device"
        )
    lowest, highest = values.aminmax()  # both NaN where one value is
    if not (lowest.isfinite() and highest.isfinite()):
        raise QuantizerError(
            f"the weight of '{name}' holds NaN or infinite values; the model has diverged and "
            "cannot be quantized"
        )


def _refuse_fused_experts(model: nn.Module) -> None:
    for name, parameter in model.named_parameters():
        owner = model.get_submodule(name.rpartition(".")[0])
        if parameter.ndim == 3 and not isinstance(owner, nn.Conv1d):
            raise QuantizerError(
                f"'{name}' holds the weights of several experts in one tensor; only models made "
                "of nn.Linear and Conv1D layers can be quantized"
            )


def _check_plain(layer: LinearLayer) -> None:
    weight = layer.weight
    if layer.name.endswith(".base_layer"):
        raise QuantizerError(
            f"'{layer.name}' carries an adapter; merge it before quantization (merge_and_unload)"
        )
    if type(weight) is not nn.Parameter or weight.dtype not in FLOATS:
        raise QuantizerError(
            f"the weight of '{layer.name}' is quantized already ({type(weight).__name__}, "
            f"{weight.dtype}); start from an unquantized checkpoint"
        )


def _example_name(model: nn.Module) -> str:
    return next((n for n, m in model.named_modules() if isinstance(m, nn.Linear | Conv1D)), "")
