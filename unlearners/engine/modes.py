"""Modes of a model's modules in training: what is random in them, and what stays as it is."""

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
    """Within, training mode drops no value and no layer, but for the dropout of an adapter.

    Every rate is 0: ``attention_dropout``, ``resid_pdrop``, ``layerdrop`` ... of modules and of
    configurations that modules read. Evaluation mode would do more: in it long inputs of xLSTM
    have no gradient, Reformer refuses to train and RWKV rescales its weights.
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
    """Modules of the base model, and all configurations that they hold."""
    adapters = [module for module in model.modules() if isinstance(module, LoraLayer)]
    own = {part for layer in adapters for part in layer.lora_dropout.modules()}
    modules = [module for module in model.modules() if module not in own]
    configs: dict[int, PreTrainedConfig] = {}
    found = [value for module in modules for value in vars(module).values()]
    while found:
        value = found.pop()
        if isinstance(value, PreTrainedConfig) and id(value) not in configs:
            configs[id(value)] = value
            found += vars(value).values()
    return [*modules, *configs.values()]


def jittered_modules(model: nn.Module) -> list[nn.Module]:
    """Modules of experts that multiply their inputs by noise in training mode.

    Evaluation mode is for them alone: the rate is no noise only, it also decides the experts of
    PhiMoE in both modes.
    """
    return [module for module in model.modules() if any("jitter" in name for name in vars(module))]


def untrained_modules(model: nn.Module) -> list[nn.Module]:
    """Modules of a multimodal model outside its language model; of a text model none.

    In training mode some ask for more than text: Gemma 3 for the kind of every token.
    """
    base = base_of(model)
    inside = {module for _, module in language_modules(base)}
    return [module for module in base.modules() if module not in inside]


def base_of(model: nn.Module) -> PreTrainedModel:
    """The model itself, or the one that an adapter is in."""
    return cast("PreTrainedModel", getattr(model, "get_base_model", lambda: model)())


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Within, the model is in evaluation mode; afterwards every module is in its own again.

    RWKV stays in training mode: it has no dropout, and rescales its weights in place otherwise.
    """
    modes = {module: module.training for module in model.modules()}
    for module in modes:
        module.training = hasattr(module, "layers_are_rescaled")
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
