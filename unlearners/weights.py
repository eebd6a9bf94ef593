"""Operations on the weights of a model: dtypes, trained weights, edits."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from quantizers.architecture import language_parameters

from .files import replacing

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Edit = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Function from a weight's target and trained values to its final value, all float32."""


def dtypes(model: nn.Module) -> dict[str, torch.dtype]:
    """Return the dtype of every parameter by name."""
    return {name: parameter.dtype for name, parameter in model.named_parameters()}


def cast(model: nn.Module, to: dict[str, torch.dtype]) -> None:
    """Cast parameters in place to dtypes by name; buffers (rotary frequencies) keep theirs."""
    for name, parameter in model.named_parameters():
        parameter.data = parameter.data.to(to[name])


def trained_parameters(model: PreTrainedModel) -> list[tuple[str, nn.Parameter]]:
    """List the weights of the language model that full finetuning trains, with their names.

    Weights that are frozen in the model (tables of positions, biases of routers) are not trained,
    unless all are frozen.
    """
    weights = [(n, p) for n, p in language_parameters(model) if p.is_floating_point()]
    return [(n, p) for n, p in weights if p.requires_grad] or weights


def make_trainable(model: PreTrainedModel, dtype: torch.dtype) -> None:
    """Cast the language model to ``dtype`` and require gradients of the trained weights only."""
    trained = trained_parameters(model)
    model.requires_grad_(False)
    for _, parameter in language_parameters(model):
        if parameter.is_floating_point():
            parameter.data = parameter.data.to(dtype)
    for _, parameter in trained:
        parameter.requires_grad_(True)


def save_parameters(parameters: Iterable[tuple[str, nn.Parameter]], path: Path) -> None:
    """Write named parameters to a safetensors file."""
    with replacing(path) as unfinished:
        save_file({name: p.detach().contiguous() for name, p in parameters}, unfinished)


@torch.no_grad()
def edit_parameters(model: nn.Module, originals: Path, edit: Edit) -> None:
    """Apply ``edit`` to every parameter with an original, one tensor at a time.

    Args:
        model: Trained model, changed in place.
        originals: Safetensors file of the target's weights by name.
        edit: Function from target and trained values of a weight to its final value.
    """
    with safe_open(originals, framework="pt") as file:
        for name in file.keys():  # noqa: SIM118  # no dict
            parameter = model.get_parameter(name)
            original = file.get_tensor(name).to(parameter.device)
            parameter.data = edit(original.float(), parameter.float())
