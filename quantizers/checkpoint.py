"""Checkpoints of models with quantized layers that transformers cannot load."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from accelerate import init_empty_weights
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoConfig, GenerationConfig

from .errors import QuantizerError
from .loading import auto_class

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Not transformers' own file name: its loader then refuses the folder instead of filling the
# unknown quantized layers with random weights.
WEIGHTS_FILE = "quantized.safetensors"


def empty_model(folder: Path) -> PreTrainedModel:
    """Build the model of a Hugging Face folder with its parameters on the meta device.

    Raises:
        QuantizerError: The folder has no ``config.json``.
    """
    if not (folder / "config.json").is_file():
        raise QuantizerError(f"{folder} is no model folder: it has no config.json")
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    with init_empty_weights():
        return auto_class(config).from_config(config)


def save_checkpoint(model: PreTrainedModel, folder: Path) -> None:
    """Write configuration and state dict; tied tensors once.

    Buffers that a model computes for itself are written if a new model would compute others:
    sines of positions depend on the dtype in which it was built.

    Args:
        model: Quantized model.
        folder: Existing folder.
    """
    model.config.dtype = model.dtype
    model.config.save_pretrained(folder)
    computed = dict(empty_model(folder).named_buffers())
    state = model.state_dict()
    for name, buffer in model.named_buffers():
        if name in computed and name not in state and not _same(buffer, computed[name]):
            state[name] = buffer
    tensors = {
        name: tensor.contiguous()
        for name, tensor in state.items()
        if name not in model.all_tied_weights_keys
    }
    save_file(tensors, folder / WEIGHTS_FILE, metadata={"format": "pt"})
    if model.generation_config is not None:
        model.generation_config.save_pretrained(folder)


def load_checkpoint(
    folder: Path, insert_modules: Callable[[PreTrainedModel], None]
) -> PreTrainedModel:
    """Load a checkpoint of `save_checkpoint` onto the CPU, in evaluation mode.

    Args:
        folder: The checkpoint.
        insert_modules: Function that replaces the layers that were quantized by empty quantized
            ones, in a model with its parameters on the meta device.

    Raises:
        QuantizerError: The weights are missing or do not fit the model.
    """
    weights = folder / WEIGHTS_FILE
    if not weights.is_file():
        raise QuantizerError(f"{folder} holds no {WEIGHTS_FILE}; quantize the model again")
    model = empty_model(folder)
    insert_modules(model)
    # Copies are aligned: torch's int8 kernel for CPUs crashes on an address that is not a
    # multiple of 16.
    state = {name: tensor.clone() for name, tensor in load_file(weights).items()}
    result = model.load_state_dict(state, strict=False, assign=True)
    missing = set(result.missing_keys) - set(model.all_tied_weights_keys)
    computed = {name for name, _ in model.named_buffers()}.intersection(result.unexpected_keys)
    unexpected = set(result.unexpected_keys) - computed
    if missing or unexpected:
        raise QuantizerError(
            f"{weights} does not fit {type(model).__name__}: {len(missing)} tensors are missing, "
            f"{len(unexpected)} unexpected"
        )
    for name in computed:
        owner, _, buffer = name.rpartition(".")
        setattr(model.get_submodule(owner), buffer, state[name])
    model.tie_weights()
    if (folder / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_pretrained(folder)
    return model.eval()


def _same(left: Tensor, right: Tensor) -> bool:
    return left.dtype == right.dtype and torch.equal(left.to(right.device), right)
