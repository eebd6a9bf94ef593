"""The low-rank adapter: the weights that it is for, its place around them, its merge."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator
from functools import partial
from typing import TYPE_CHECKING, NamedTuple
from typing import cast as typed

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import Linear as LoraLinear
from peft.tuners.lora import LoraLayer, ParamWrapper
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from quantizers.architecture import expert_weights, language_modules
from quantizers.layers import is_linear

from ..errors import UnlearnerError

if TYPE_CHECKING:
    from ..weights import Edit

# Mixers of Mamba hand the weights of these modules to kernels: PEFT refuses to adapt them.
PAST_THE_ADAPTER = {"out_proj", "conv1d"}
MAMBA = {"falcon_h1", "mamba", "mamba2", "falcon_mamba", "nemotron_h"}

# In models with experts PEFT takes modules of these names for experts as transformers 4 named
# them, and adapts other weights. As names of parameters it takes them as they are.
NAMES_OF_OLD_EXPERTS = {"gate", "gate_proj", "up_proj", "down_proj", "w1", "w2", "w3"}


class Targets(NamedTuple):
    """Weights for an adapter, by dotted names of modules and of parameters."""

    modules: list[str]
    parameters: list[str]


def find_targets(model: PreTrainedModel, targets: str | tuple[str, ...]) -> Targets:
    """Weights of the language model that an adapter is for.

    Args:
        model: without an adapter.
        targets: names, or their ends; or ``all-linear``, ``attention`` or ``mlp``: linear
            projections and experts, all of them, those inside attention blocks or those outside.
            Left out of these are the output head, weights that two modules share, and modules
            that PEFT cannot adapt.

    Raises:
        UnlearnerError: nothing has such a name.
    """
    if isinstance(targets, str):
        found = _adaptable(model)
        kept = {"all-linear": (True, False), "attention": (True,), "mlp": (False,)}[targets]
        modules, parameters = (
            [name for name in names if bool(re.search("attn|attention", name)) in kept]
            for names in found
        )
    else:
        modules, parameters = _named(model, targets)
    if not modules and not parameters:
        raise UnlearnerError(
            f"lora targets={targets!r}: {type(model).__name__} has no such weight that an adapter "
            "can be for; use another of all-linear, attention and mlp, or full finetuning"
        )
    return Targets(modules, parameters)


def _adaptable(model: PreTrainedModel) -> Targets:
    head = model.get_output_embeddings()
    owners = Counter(id(p) for m in model.modules() for p in m._parameters.values())
    refused = PAST_THE_ADAPTER if model.config.model_type in MAMBA else set()
    modules = [
        name
        for name, module in language_modules(model)
        if isinstance(module, nn.Linear | Conv1D)
        and module is not head
        and owners[id(module.weight)] == 1
        and name.rpartition(".")[2] not in refused
        and is_linear(module)
    ]
    return Targets(modules, [w.name for w in expert_weights(model) if owners[id(w.weight)] == 1])


def _named(model: PreTrainedModel, ends: tuple[str, ...]) -> Targets:
    """Modules and experts whose names end so.

    Raises:
        UnlearnerError: no name ends so, or an adapter cannot stand in for what has it.
    """
    inside = dict(language_modules(model))
    experts = {weights.name for weights in expert_weights(model)}
    found = {
        end: [name for name in (*inside, *experts) if f".{name}".endswith(f".{end}")]
        for end in ends
    }
    for end, names in found.items():
        if not names:
            raise UnlearnerError(
                f"lora targets={ends!r}: nothing in the language model of "
                f"{type(model).__name__} has the name {end!r}"
            )
    wanted = {name for names in found.values() for name in names}
    modules = [name for name in inside if name in wanted]
    owners = Counter(id(p) for m in model.modules() for p in m._parameters.values())
    for name in modules:
        weight = getattr(inside[name], "weight", None)
        if weight is not None and owners[id(weight)] > 1:
            raise UnlearnerError(
                f"lora targets={ends!r}: '{name}' shares its weight with another module, which an "
                "adapter on one of them cannot be merged into; leave it out"
            )
        if isinstance(inside[name], nn.Linear) and not is_linear(inside[name]):
            raise UnlearnerError(
                f"lora targets={ends!r}: '{name}' is a {type(inside[name]).__name__}, no linear "
                "projection; leave it out"
            )
    return Targets(modules, sorted(wanted & experts))


def attach_adapter(
    model: PreTrainedModel,
    *,
    rank: int,
    alpha: float,
    dropout: float,
    targets: str | tuple[str, ...],
    dtype: torch.dtype,
) -> PreTrainedModel:
    """Freeze the model and attach a fresh adapter (B = 0).

    Args:
        model: changed in place.
        rank: rank of the update B A.
        alpha: scale of the update, divided by ``rank``.
        dropout: probability with which an input of the adapter is dropped.
        targets: weights to adapt, see ``find_targets``.
        dtype: dtype of the adapter's weights.

    Raises:
        UnlearnerError: ``targets`` names nothing, or a weight that PEFT cannot adapt.
    """
    modules, parameters = find_targets(model, targets)
    for weights in expert_weights(model):
        if weights.name in parameters and weights.weight.ndim != 3:
            raise UnlearnerError(
                f"lora targets={targets!r}: PEFT cannot adapt experts that are kept in one "
                f"matrix ('{weights.name}'); use targets='attention', or full finetuning"
            )
    if any(True for _ in expert_weights(model)):
        old = [name for name in modules if name.rpartition(".")[2] in NAMES_OF_OLD_EXPERTS]
        modules = [name for name in modules if name not in old]
        parameters = [*parameters, *(f"{name}.weight" for name in old)]
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=rank,
        lora_alpha=alpha,  # type: ignore[arg-type]  # declared int, any number works
        lora_dropout=0 if parameters else dropout,
        target_modules=modules,
        target_parameters=parameters or None,
        exclude_modules=list(_also_matched(model, modules)) or None,
        bias="none",
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in model.modules()),
    )
    try:
        adapted = get_peft_model(model, config)
    except ValueError as error:
        raise UnlearnerError(f"lora targets={targets!r}: {error}") from error
    _check_adapted(adapted, targets, {*modules, *parameters})
    for layer in _layers(adapted):
        if not isinstance(layer, ParamWrapper):
            # PEFT takes no dropout where it adapts a parameter, not even for the other layers
            layer.lora_dropout["default"] = nn.Dropout(dropout)
    # By default every checkpoint would ask the hub whether the vocabulary has changed.
    save = partial(adapted.save_pretrained, save_embedding_layers=False)
    adapted.save_pretrained = save  # type: ignore[method-assign]
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.to(dtype)
    return typed(PreTrainedModel, adapted)


def _also_matched(model: PreTrainedModel, modules: list[str]) -> Iterator[str]:
    """Other modules that PEFT would adapt: it compares the ends of names."""
    ends = tuple(f".{name}" for name in modules)
    wanted = {*modules}
    for name, _ in model.named_modules():
        if name not in wanted and name.endswith(ends):
            yield name


def _check_adapted(adapted: PeftModel, targets: str | tuple[str, ...], wanted: set[str]) -> None:
    found = set()
    for name, module in adapted.get_base_model().named_modules():
        name = name.replace(".base_layer", "")
        if isinstance(module, ParamWrapper):
            found.add(f"{name}.{module.parameter_name}")
        elif isinstance(module, LoraLayer):
            found.add(name)
    if found != wanted:
        raise UnlearnerError(
            f"lora targets={targets!r}: PEFT cannot adapt exactly these weights (first that "
            f"differs: {min(found ^ wanted)}); name others"
        )


def _layers(model: nn.Module) -> list[LoraLayer]:
    return [module for module in model.modules() if isinstance(module, LoraLayer)]


def _adapted_weight(layer: LoraLayer) -> nn.Parameter:
    return getattr(layer.get_base_layer(), getattr(layer, "parameter_name", "weight"))


def changed_parameters(model: nn.Module, reached: Collection[nn.Parameter]) -> int:
    """Number of parameters in the weights that training changes, an adapter's own aside.

    Args:
        model: in training, with an adapter or without.
        reached: parameters that a gradient reaches. An adapter is not among them where the model
            reads its weight past it, or does not use it for text.
    """
    layers = _layers(model)
    if not layers:
        return sum(p.numel() for p in reached if p.requires_grad)
    return sum(
        _adapted_weight(layer).numel()
        for layer in layers
        if any(p in reached for b in (layer.lora_B, layer.lora_embedding_B) for p in b.parameters())
    )


@torch.no_grad()
def merge_adapter(model: PreTrainedModel, edit: Edit) -> PreTrainedModel:
    """Add (alpha / rank) B A to every weight in float32 and round once to the weight's dtype."""
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.float()
    for layer in _layers(model):
        weight = _adapted_weight(layer)
        dtype = weight.dtype
        weight.data = weight.float()  # experts' update comes in the dtype of their weight
        update = typed(LoraLinear, layer).get_delta_weight("default")
        weight.data = edit(weight.data, weight + update).to(dtype)
    return typed(PeftModel, model).unload()
