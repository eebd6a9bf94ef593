"""Checkpoints of models whose quantized layers are modules that transformers does not know."""

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
# quantized layers, of which it knows nothing, with random weights.
WEIGHTS_FILE = "quantized.safetensors"


def empty_model(folder: Path) -> PreTrainedModel:
    """The model that a Hugging Face folder describes, its parameters on the meta device.

    Raises:
        QuantizerError: the folder has no ``config.json``.
    """
    if not (folder / "config.json").is_file():
        raise QuantizerError(f"{folder} is no model folder: it has no config.json")
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    with init_empty_weights():
        return auto_class(config).from_config(config)


def save_checkpoint(model: PreTrainedModel, folder: Path) -> None:
    """Write configuration and state dict; tied tensors once.

    Buffers that a model computes for itself are written where another one would not compute the
    same: sines of positions depend on the way in which it was loaded.
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
    """Load what `save_checkpoint` wrote, onto the CPU.

    Args:
        folder: The checkpoint.
        insert_modules: Puts empty quantized layers into a model whose parameters are on the meta
            device, in the places where the saved model had them.

    Raises:
        QuantizerError: there are no such weights, or they do not fit.
    """
    weights = folder / WEIGHTS_FILE
    if not weights.is_file():
        raise QuantizerError(f"{folder} holds no {WEIGHTS_FILE}; quantize the model again")
    model = empty_model(folder)
    insert_modules(model)
    # Tensors lie in the file as packed, but torch's int8 kernel for CPUs crashes on an address
    # that is no multiple of 16: copies are aligned.
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
