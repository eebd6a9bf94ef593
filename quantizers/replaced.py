"""Checks of layers that a library replaces by its own modules, and trial runs."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves
from transformers.pytorch_utils import Conv1D

from .errors import QuantizerError
from .layers import LinearLayer, check_finite, is_linear, linear_layers
from .loading import one_line

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def replaceable_layers(
    model: PreTrainedModel,
    library: str,
    *,
    skip: tuple[str, ...] = (),
    head: bool = False,
    plain: bool = False,
) -> list[LinearLayer]:
    """List the linear layers that a library can replace by its own modules.

    A forward pass of four tokens detects layers with a weight that the model uses outside of them.

    Args:
        model: Model with weights in a floating-point dtype, not offloaded.
        library: Name of the library, for the messages.
        skip: See `linear_layers`.
        head: See `linear_layers`.
        plain: Refuse every subclass of ``nn.Linear`` and every weight that the model reads, for
            libraries that store the weight in another form. Otherwise subclasses that compute the
            same are accepted, and weights may be read but not changed.

    Raises:
        QuantizerError: `linear_layers` raises it, a weight is not finite, the model does not run
            on text alone, or a layer cannot be replaced: it is one of several experts in one
            tensor, is of a subclass, or its weight is used by the model.
    """
    layers = linear_layers(model, skip=skip, head=head)
    names = defaultdict(list)
    for name, module in model.named_modules(remove_duplicate=False):
        if isinstance(module, nn.Linear | Conv1D):
            names[id(module.weight)].append(name)
    obstacles = {}
    for layer in layers:
        kind = type(layer.module)
        if layer.expert is not None:
            obstacles[layer.name] = "holds the weights of several experts in one tensor"
        elif len(sharing := names[id(layer.weight)]) > 1:
            obstacles[layer.name] = f"shares its weight with '{sharing[1]}'"
        elif kind not in (nn.Linear, Conv1D) and (plain or not is_linear(layer.module)):
            obstacles[layer.name] = f"is a {kind.__name__}, no plain nn.Linear"
    _refuse(obstacles, layers, library)
    for layer in layers:
        check_finite(layer.name, layer.weight)
    versions = [layer.weight._version for layer in layers]
    used = _weights_read(model, layers)
    if not plain:
        used = [x for x, old in zip(layers, versions, strict=True) if x.weight._version != old]
    reason = f"has its weight {'read' if plain else 'changed'} by {type(model).__name__} itself"
    _refuse({layer.name: reason for layer in used}, layers, library)
    return layers


def _refuse(obstacles: Mapping[str, str], layers: list[LinearLayer], library: str) -> None:
    """Raise an error for the first obstacle (a reason by layer name), if there is any."""
    if not obstacles:
        return
    name, reason = next(iter(obstacles.items()))
    skip = sorted({re.sub(r"(?<=\.)\d+(?=\.|$)", "*", layer) for layer in obstacles})
    others = any(layer.name not in obstacles for layer in layers)
    raise QuantizerError(
        f"{library} cannot quantize '{name}': it {reason}; use rtn-int4 or rtn-int8, which round "
        f"weights in place{f', or leave it out (skip={skip})' if others else ''}"
    )


def try_quantized(model: PreTrainedModel, library: str) -> PreTrainedModel:
    """Return a quantized model after a forward pass of four tokens.

    Raises:
        QuantizerError: The forward pass fails.
    """
    with _explained(f"{type(model).__name__} does not run as {library} quantizes it"):
        _read_tokens(model)
    return model


def _weights_read(model: PreTrainedModel, layers: list[LinearLayer]) -> list[LinearLayer]:
    """Return the layers with a weight that is used outside of their own ``forward``."""
    watch = _Watch({id(layer.weight): layer.name for layer in layers})
    with ExitStack() as stack:
        for layer in layers:
            stack.callback(layer.module.register_forward_pre_hook(watch.enter).remove)
            stack.callback(layer.module.register_forward_hook(watch.leave).remove)
        stack.enter_context(_explained(f"{type(model).__name__} does not run on text alone"))
        stack.enter_context(watch)
        _read_tokens(model)
    return [layer for layer in layers if layer.name in watch.read]


@torch.no_grad()
def _read_tokens(model: PreTrainedModel) -> None:
    embeddings: Any = model.get_input_embeddings()
    tokens = torch.arange(4, device=embeddings.weight.device).remainder(len(embeddings.weight))
    training = model.training
    model.eval()
    try:
        model(input_ids=tokens.unsqueeze(0))
    finally:
        model.train(training)


@contextmanager
def _explained(message: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # models and kernels raise anything
        raise QuantizerError(f"{message}: {one_line(error)}") from error


class _Watch(TorchFunctionMode):
    """Recorder of weights that are used outside of the layers they belong to.

    Attributes:
        read: Names of layers with a weight, or its dtype or shape, that is used elsewhere.
    """

    def __init__(self, names: Mapping[int, str]) -> None:
        super().__init__()
        self.read: set[str] = set()
        self._names = names
        self._running: list[nn.Module] = []

    def enter(self, module: nn.Module, *args: Any) -> None:
        """Forward pre-hook of the layers."""
        self._running.append(module)

    def leave(self, module: nn.Module, *args: Any) -> None:
        """Forward hook of the layers."""
        self._running.pop()

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        own = self._running[-1].weight if self._running else None
        results = result if isinstance(result, list | tuple) else (result,)
        for value in tree_leaves((args, kwargs)):
            name = self._names.get(id(value))
            if name is None or value is own:
                continue
            if any(isinstance(r, Tensor | torch.dtype | torch.Size) for r in (result, *results)):
                self.read.add(name)
        return result
