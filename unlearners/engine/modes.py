"""Training and evaluation modes of a model's modules; dropout."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from peft.tuners.lora import LoraLayer
from torch import nn
from torch.nn.modules.dropout import _DropoutNd
from transformers import PreTrainedConfig

from quantizers.architecture import language_modules

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@contextmanager
def dropout_off(model: nn.Module) -> Iterator[None]:
    """Turn off dropout of values and layers within this context, except for that of an adapter.

    All rates are set to 0: ``attention_dropout``, ``resid_pdrop``, ``layerdrop`` ... of modules and
    of the configurations that they read. Evaluation mode has other effects too: long inputs of
    xLSTM get no gradient, Reformer refuses to train and RWKV rescales its weights.
    """
    rates = [
        (owner, name, value)
        for owner in _owners(model)
        for name, value in vars(owner).items()
        if isinstance(value, int | float)
        and not isinstance(value, bool)
        and ("drop" in name or (name == "p" and isinstance(owner, _DropoutNd)))
    ]
    for owner, name, value in rates:
        setattr(owner, name, type(value)(0))
    try:
        yield
    finally:
        for owner, name, value in rates:
            setattr(owner, name, value)


def _owners(model: nn.Module) -> list[Any]:
    """List the modules of the base model and all configurations among their attributes."""
    adapters = [module for module in model.modules() if isinstance(module, LoraLayer)]
    own = {part for layer in adapters for part in layer.lora_dropout.modules()}
    modules = [module for module in model.modules() if module not in own]
    configs: dict[int, PreTrainedConfig] = {}
    values = [value for module in modules for value in vars(module).values()]
    while values:
        value = values.pop()
        if isinstance(value, PreTrainedConfig) and id(value) not in configs:
            configs[id(value)] = value
            values += vars(value).values()
    return [*modules, *configs.values()]


def jittered_modules(model: nn.Module) -> list[nn.Module]:
    """List the modules of experts that multiply their inputs by noise in training mode.

    They are set to evaluation mode instead of a rate of 0, since the rate also affects the choice
    of experts of PhiMoE in both modes.
    """
    return [module for module in model.modules() if any("jitter" in name for name in vars(module))]


def untrained_modules(model: nn.Module) -> list[nn.Module]:
    """List the modules of a multimodal model outside of its language model.

    In training mode some need more inputs than text: Gemma 3 needs the type of every token.
    """
    base = base_of(model)
    inside = {module for _, module in language_modules(base)}
    return [module for module in base.modules() if module not in inside]


def base_of(model: nn.Module) -> PreTrainedModel:
    """Return the model without the wrapper of an adapter."""
    return cast("PreTrainedModel", getattr(model, "get_base_model", lambda: model)())


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Set evaluation mode within this context and restore the mode of every module after it.

    RWKV is in training mode: it has no dropout, and would rescale its weights in place.
    """
    modes = {module: module.training for module in model.modules()}
    for module in modes:
        module.training = hasattr(module, "layers_are_rescaled")
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
