"""Low-rank adapter: choice of its weights, attachment and merge."""

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

# Mixers of Mamba pass the weights of these modules to kernels: PEFT refuses to adapt them.
PAST_THE_ADAPTER = {"out_proj", "conv1d"}
MAMBA = {"falcon_h1", "mamba", "mamba2", "falcon_mamba", "nemotron_h"}

# In models with experts PEFT reads modules of these names as experts of transformers 4 and adapts
# other weights. Names of parameters are not affected.
NAMES_OF_OLD_EXPERTS = {"gate", "gate_proj", "up_proj", "down_proj", "w1", "w2", "w3"}


class Targets(NamedTuple):
    """Weights to adapt.

    Attributes:
        modules: Dotted names of modules.
        parameters: Dotted names of parameters, of experts.
    """

    modules: list[str]
    parameters: list[str]


def find_targets(model: PreTrainedModel, targets: str | tuple[str, ...]) -> Targets:
    """Find the weights of the language model that are adapted.

    Args:
        model: Model without an adapter.
        targets: ``"all-linear"``, ``"attention"``, ``"mlp"``, or names of modules (see `LoRA`).

    Raises:
        UnlearnerError: No weight has such a name, or PEFT cannot adapt it.
    """
    if isinstance(targets, str):
        in_attention = {"all-linear": (True, False), "attention": (True,), "mlp": (False,)}[targets]
        modules, parameters = (
            [name for name in names if bool(re.search("attn|attention", name)) in in_attention]
            for names in _adaptable(model)
        )
    else:
        modules, parameters = _named(model, targets)
    if not modules and not parameters:
        raise UnlearnerError(
            f"lora targets={targets!r}: {type(model).__name__} has no such weight that PEFT can "
            "adapt; use another of all-linear, attention and mlp, or full finetuning"
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
    """Find modules and experts by the last parts of their names.

    Raises:
        UnlearnerError: No name matches, or PEFT cannot adapt one that does.
    """
    inside = dict(language_modules(model))
    experts = {weights.name for weights in expert_weights(model)}
    names_by_end = {
        end: [name for name in (*inside, *experts) if f".{name}".endswith(f".{end}")]
        for end in ends
    }
    for end, names in names_by_end.items():
        if not names:
            raise UnlearnerError(
                f"lora targets={ends!r}: nothing in the language model of "
                f"{type(model).__name__} has the name {end!r}"
            )
    wanted = {name for names in names_by_end.values() for name in names}
    modules = [name for name in inside if name in wanted]
    owners = Counter(id(p) for m in model.modules() for p in m._parameters.values())
    for name in modules:
        weight = getattr(inside[name], "weight", None)
        if weight is not None and owners[id(weight)] > 1:
            raise UnlearnerError(
                f"lora targets={ends!r}: '{name}' shares its weight with another module, so an "
                "adapter on one of them cannot be merged; leave it out"
            )
        if isinstance(inside[name], nn.Linear) and not is_linear(inside[name]):
            raise UnlearnerError(
                f"lora targets={ends!r}: '{name}' is a {type(inside[name]).__name__}, not a "
                "linear projection; leave it out"
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
    """Freeze the model and attach a new adapter (B = 0).

    Args:
        model: Target model, changed in place.
        rank: Rank of the update B A.
        alpha: Scale of the update before division by ``rank``.
        dropout: Dropout probability of the adapter's inputs.
        targets: Weights to adapt (see `LoRA`).
        dtype: Dtype of the adapter's weights.

    Returns:
        The model with the adapter around it.

    Raises:
        UnlearnerError: ``targets`` matches no weight, or one that PEFT cannot adapt.
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
            # With target_parameters PEFT refuses dropout in the configuration of all layers.
            layer.lora_dropout["default"] = nn.Dropout(dropout)
    # By default every checkpoint asks the hub whether the vocabulary has changed.
    save = partial(adapted.save_pretrained, save_embedding_layers=False)
    adapted.save_pretrained = save  # type: ignore[method-assign]
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.to(dtype)
    return typed(PreTrainedModel, adapted)


def _also_matched(model: PreTrainedModel, modules: list[str]) -> Iterator[str]:
    """Yield other modules that PEFT would adapt, since it compares the ends of names."""
    ends = tuple(f".{name}" for name in modules)
    wanted = {*modules}
    for name, _ in model.named_modules():
        if name not in wanted and name.endswith(ends):
            yield name


def _check_adapted(adapted: PeftModel, targets: str | tuple[str, ...], wanted: set[str]) -> None:
    adapted_names = set()
    for name, module in adapted.get_base_model().named_modules():
        name = name.replace(".base_layer", "")
        if isinstance(module, ParamWrapper):
            adapted_names.add(f"{name}.{module.parameter_name}")
        elif isinstance(module, LoraLayer):
            adapted_names.add(name)
    if adapted_names != wanted:
        raise UnlearnerError(
            f"lora targets={targets!r}: PEFT cannot adapt exactly these weights (first that "
            f"differs: {min(adapted_names ^ wanted)}); name others"
        )


def _layers(model: nn.Module) -> list[LoraLayer]:
    return [module for module in model.modules() if isinstance(module, LoraLayer)]


def _adapted_weight(layer: LoraLayer) -> nn.Parameter:
    return getattr(layer.get_base_layer(), getattr(layer, "parameter_name", "weight"))


def changed_parameters(model: nn.Module, reached: Collection[nn.Parameter]) -> int:
    """Count the parameters of the model in weights that training can change.

    Args:
        model: Model in training, with an adapter or without.
        reached: Parameters with a gradient. Those of an adapter have none if the model reads the
            adapted weight directly, or does not use it for text.

    Returns:
        Number of trained parameters, or with an adapter of parameters in adapted weights.
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
    """Add (alpha / rank) B A to every weight in float32 and round once to the weight's dtype.

    Args:
        model: Model with a trained adapter.
        edit: Function from target and trained values of a weight to its final value.

    Returns:
        The model without the adapter.
    """
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.float()
    for layer in _layers(model):
        weight = _adapted_weight(layer)
        dtype = weight.dtype
        weight.data = weight.float()  # the update of experts has the dtype of their weight
        update = typed(LoraLinear, layer).get_delta_weight("default")
        weight.data = edit(weight.data, weight + update).to(dtype)
    return typed(PeftModel, model).unload()
