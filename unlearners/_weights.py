"""Operations on weights: dtypes, the adapter and its merge."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from .base import UnlearnerError

if TYPE_CHECKING:
    from .finetuning import LoRA

Edit = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def cast_parameters(model: nn.Module, dtype: torch.dtype) -> None:
    """Cast parameters in place; buffers (rotary frequencies) keep their own precision."""
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)


def save_parameters(model: nn.Module, path: Path) -> None:
    """Write all parameters as safetensors."""
    save_file({n: p.detach().contiguous() for n, p in model.named_parameters()}, path)


@torch.no_grad()
def edit_parameters(model: nn.Module, originals: Path, edit: Edit) -> None:
    """Apply ``edit`` to every parameter and the original that was written to ``originals``."""
    with safe_open(originals, framework="pt") as file:
        for name, parameter in model.named_parameters():
            original = file.get_tensor(name).to(parameter.device).float()
            parameter.copy_(edit(original, parameter.float()))


def linear_names(model: PreTrainedModel, targets: str) -> list[str]:
    """Names of the linear projections: all, those of attention blocks or the others.

    The output head is never among them.
    """
    head = model.get_output_embeddings()
    names = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and module is not head
    ]
    attention = {name for name in names if re.search("attn|attention", name)}
    return {
        "all-linear": names,
        "attention": [name for name in names if name in attention],
        "mlp": [name for name in names if name not in attention],
    }[targets]


def attach_adapter(model: PreTrainedModel, lora: LoRA) -> PeftModel:
    """The model with its weights frozen and a fresh adapter (B = 0) attached.

    Raises:
        UnlearnerError: no module has a name in ``lora.targets``.
    """
    names = linear_names(model, lora.targets) if isinstance(lora.targets, str) else [*lora.targets]
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=names,
        bias="none",
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in model.modules()),
    )
    try:
        return get_peft_model(model, config, autocast_adapter_dtype=False)
    except ValueError as error:
        raise UnlearnerError(f"lora targets={lora.targets!r}: {error}") from error


def cast_adapter(model: nn.Module, dtype: torch.dtype) -> None:
    """Cast the adapter's weights, all that is trained, in place."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(dtype)


@torch.no_grad()
def merge_adapter(model: PeftModel, edit: Edit) -> PreTrainedModel:
    """Add (alpha / r) B A to every weight in float32 and round once to the weight's dtype."""
    cast_adapter(model, torch.float32)
    for module in model.modules():
        if isinstance(module, LoraLayer):
            weight = module.get_base_layer().weight
            original = weight.data.float()
            update = module.get_delta_weight("default")
            weight.data = edit(original, original + update).to(weight.dtype)
    return model.unload()
