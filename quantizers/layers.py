"""Weight matrices that are quantized: linear projections and experts."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.pytorch_utils import Conv1D

from .architecture import expert_weights, language_modules, stacked
from .errors import QuantizerError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


class LinearLayer(NamedTuple):
    """Weight matrix of a linear projection or of one expert.

    Attributes:
        name: Dotted name of the module, or of the tensor that contains the expert's matrix.
        module: An ``nn.Linear`` with a weight (outputs, inputs), transformers' ``Conv1D`` with a
            weight (inputs, outputs), or a module of experts.
        axis: Dimension of `weight` for the input features, 0 or 1.
        parameter: Name of the parameter in ``module``.
        expert: Index of the expert; None for a linear projection.
    """

    name: str
    module: nn.Module
    axis: int
    parameter: str = "weight"
    expert: int | None = None

    @property
    def weight(self) -> Tensor:
        """The matrix; for an expert a view into the parameter."""
        weight: nn.Parameter = getattr(self.module, self.parameter)
        return weight if self.expert is None else stacked(self.module, weight)[self.expert]


def linear_layers(
    model: PreTrainedModel, *, skip: tuple[str, ...] = (), head: bool = False
) -> list[LinearLayer]:
    """List every weight matrix of the language model that is quantized.

    These are ``nn.Linear`` and ``Conv1D`` layers and the matrices of experts that share a tensor.
    Excluded are weights shared with a module of another kind (a head tied to the embeddings) and,
    unless ``head`` is set, the output head. Embeddings and convolutions are not linear layers.
    Linear layers that share a weight are listed once.

    Args:
        model: Model with weights in float16, bfloat16, float32 or float64, or on the meta device.
        skip: Shell-style patterns of names to exclude (``"*.down_proj"``).
        head: Include the output head.

    Raises:
        QuantizerError: Nothing is left to quantize, a pattern matches nothing, the head is
            requested but tied, an adapter is not merged, or a weight is quantized already.
    """
    owners = Counter(id(p) for m in model.modules() for p in m._parameters.values())
    shared = defaultdict(list)
    for layer in _candidates(model):
        shared[id(getattr(layer.module, layer.parameter)), layer.expert].append(layer)
    output_head = model.get_output_embeddings()
    unused = set(skip)
    layers = []
    for (weight, _), members in shared.items():
        matching = {p for p in skip if any(fnmatchcase(layer.name, p) for layer in members)}
        unused -= matching
        holds_head = any(layer.module is output_head for layer in members)
        if matching or (holds_head and not head):
            continue
        if owners[weight] > len(members):
            if holds_head:
                raise QuantizerError(
                    f"the output head '{members[0].name}' shares its weight with the embeddings "
                    "and cannot be quantized alone; leave it out (quantize_head=False)"
                )
            continue
        _check_plain(members[0])
        layers.append(members[0])
    if unused:
        example = next(_candidates(model), None)
        raise QuantizerError(
            f"skip pattern {sorted(unused)[0]!r} matches no linear layer of "
            f"{type(model).__name__}; names look like {example.name if example else ''!r}"
        )
    if not layers:
        raise QuantizerError(
            f"nothing to quantize in {type(model).__name__}: no nn.Linear, Conv1D or tensor of "
            "experts is left apart from the output head, tied weights and skipped modules"
        )
    return layers


def as_linear(layer: LinearLayer) -> nn.Linear:
    """Convert a projection to ``nn.Linear``, for libraries without support for ``Conv1D``."""
    outputs, inputs = layer.weight.T.shape
    linear = nn.Linear(inputs, outputs, bias=True, device="meta")
    linear.weight = nn.Parameter(layer.weight.T.contiguous(), requires_grad=False)
    linear.bias = layer.module.bias  # type: ignore[assignment]
    return linear


@torch.no_grad()
def is_linear(module: nn.Module) -> bool:
    """Return True if ``module`` computes the same as a plain linear layer."""
    if type(module).forward in (nn.Linear.forward, Conv1D.forward):
        return True
    # In float32, where adding the bias separately makes no difference.
    values = {name: value.float() for name, value in module.named_parameters()}
    weight = values["weight"]
    inputs = torch.linspace(-1, 1, 2 * weight.shape[1], device=weight.device).view(2, -1)
    try:
        result = torch.func.functional_call(module, values, (inputs,))
        expected = F.linear(inputs, weight, values.get("bias"))
        return bool((result - expected).abs().max() <= 1e-4 * expected.abs().max())
    except Exception:  # results of another kind or shape
        return False


@torch.no_grad()
def effective_weight(module: nn.Module, parameter: str = "weight") -> torch.Tensor:
    """Return the weight that a layer computes with.

    Args:
        module: Layer with outputs that are linear in its inputs, or a module of experts.
        parameter: Name of the weight in ``module``.

    Returns:
        The parameter itself if it is a plain floating-point one. Otherwise the layer's outputs for
        an identity matrix, (outputs, inputs), in the dtype of its bias or else of its first
        floating-point tensor.

    Raises:
        QuantizerError: The layer has neither such a weight nor ``in_features``.
    """
    weight = getattr(module, parameter, None)
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
    """Refuse a weight that is offloaded or contains NaN or infinity.

    Args:
        name: Name of the module, for the message.
        values: The weight or its scales, of any shape and floating-point dtype.

    Raises:
        QuantizerError: The weight is offloaded or not finite.
    """
    if values.is_meta:
        raise QuantizerError(
            f"the weight of '{name}' is offloaded; load the whole model onto one device"
        )
    lowest, highest = values.aminmax()  # both are NaN if any value is
    if not (lowest.isfinite() and highest.isfinite()):
        raise QuantizerError(
            f"the weight of '{name}' holds NaN or infinite values; the model has diverged and "
            "cannot be quantized"
        )


def _candidates(model: PreTrainedModel) -> Iterator[LinearLayer]:
    """Yield every weight matrix of the language model in the order of its modules."""
    experts = defaultdict(list)
    for weights in expert_weights(model):
        experts[weights.module].append(weights)
    for name, module in language_modules(model):
        if isinstance(module, nn.Linear | Conv1D):
            yield LinearLayer(name, module, axis=int(isinstance(module, nn.Linear)))
        for weights in experts[module]:
            name = weights.name.removesuffix(".weight")
            for expert in range(len(weights.stack)):
                yield LinearLayer(name, module, weights.axis - 1, weights.parameter, expert)


def _check_plain(layer: LinearLayer) -> None:
    weight = getattr(layer.module, layer.parameter)
    if layer.name.endswith(".base_layer"):
        raise QuantizerError(
            f"'{layer.name}' carries an adapter; merge it before quantization (merge_and_unload)"
        )
    if type(weight) is not nn.Parameter or weight.dtype not in FLOATS:
        raise QuantizerError(
            f"the weight of '{layer.name}' is quantized already ({type(weight).__name__}, "
            f"{weight.dtype}); start from an unquantized checkpoint"
        )
