"""Operations on weights: dtypes, edits, the adapter and its merge."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from typing import cast as typed

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import Linear as LoraLinear
from peft.tuners.lora import LoraLayer
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from .base import UnlearnerError

if TYPE_CHECKING:
    from .finetuning import Edit, LoRA


def dtypes(model: nn.Module) -> dict[str, torch.dtype]:
    """The dtype of every parameter, by name."""
    return {name: parameter.dtype for name, parameter in model.named_parameters()}


def cast(model: nn.Module, to: torch.dtype | dict[str, torch.dtype]) -> None:
    """Cast parameters in place; buffers (rotary frequencies) keep their own precision."""
    for name, parameter in model.named_parameters():
        parameter.data = parameter.data.to(to[name] if isinstance(to, dict) else to)


def save_parameters(model: nn.Module, path: Path) -> None:
    """Write all parameters as safetensors."""
    partial = path.with_suffix(".partial")
    save_file({n: p.detach().contiguous() for n, p in model.named_parameters()}, partial)
    partial.replace(path)


@torch.no_grad()
def edit_parameters(model: nn.Module, originals: Path, edit: Edit) -> None:
    """Apply ``edit`` to every parameter and its original, one tensor in memory at a time."""
    with safe_open(originals, framework="pt") as file:
        for name, parameter in model.named_parameters():
            original = file.get_tensor(name).to(parameter.device)
            parameter.data = edit(original.float(), parameter.float())


def linear_names(model: PreTrainedModel, targets: str) -> list[str]:
    """Names of linear projections: all, those inside attention blocks, or those outside.

    The output head is never among them.
    """
    head = model.get_output_embeddings()
    names = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and module is not head
    ]
    inside = [name for name in names if re.search("attn|attention", name)]
    outside = [name for name in names if name not in inside]
    return {"all-linear": names, "attention": inside, "mlp": outside}[targets]


def attach_adapter(model: PreTrainedModel, lora: LoRA, dtype: torch.dtype) -> PreTrainedModel:
    """The model with its weights frozen and a fresh adapter (B = 0) of ``dtype`` attached.

    Raises:
        UnlearnerError: no module has a name in ``lora.targets``.
    """
    names = [*lora.targets]
    if isinstance(lora.targets, str):
        names = linear_names(model, lora.targets)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.rank,
        lora_alpha=lora.alpha,  # type: ignore[arg-type]  # declared int, any number works
        lora_dropout=lora.dropout,
        target_modules=names,
        bias="none",
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in model.modules()),
    )
    try:
        adapted = get_peft_model(model, config)
    except ValueError as error:
        raise UnlearnerError(f"lora targets={lora.targets!r}: {error}") from error
    _refuse_tied(adapted, lora)
    # By default every checkpoint would ask the hub whether the vocabulary has changed.
    save = partial(adapted.save_pretrained, save_embedding_layers=False)
    adapted.save_pretrained = save  # type: ignore[method-assign]
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.to(dtype)
    return typed(PreTrainedModel, adapted)


def _refuse_tied(adapted: PeftModel, lora: LoRA) -> None:
    """An update merged into a weight that two modules share would change both."""
    base = typed(PreTrainedModel, adapted.get_base_model())
    shared = [base.get_input_embeddings(), base.get_output_embeddings()]
    weights = {getattr(module, "weight", None) for module in shared}
    if len(weights) == 1 and any(isinstance(module, LoraLayer) for module in shared):
        raise UnlearnerError(
            f"lora targets={lora.targets!r}: this model's output head is its input embedding, "
            "which an adapter on one of them cannot be merged into; leave it out"
        )


@torch.no_grad()
def merge_adapter(model: PreTrainedModel, edit: Edit) -> PreTrainedModel:
    """Add (alpha / rank) B A to every weight in float32 and round once to the weight's dtype."""
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.float()
    for module in model.modules():
        if isinstance(module, LoraLayer):
            weight = typed(nn.Linear, module.get_base_layer()).weight
            original = weight.float()
            update = typed(LoraLinear, module).get_delta_weight("default")
            weight.data = edit(original, original + update).to(weight.dtype)
    return typed(PeftModel, model).unload()
