"""Unlearned weights of a model that could not be saved, so that training is not repeated."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import safe_open

from .. import weights

if TYPE_CHECKING:
    from transformers import PreTrainedModel

KEPT = "unlearned.safetensors"


def keep_weights(model: PreTrainedModel, output_dir: Path) -> Path:
    """Write all parameters to the training folder, from which the same run loads them.

    Args:
        model: Unlearned model.
        output_dir: Folder of its training.

    Returns:
        The safetensors file.
    """
    path = output_dir / KEPT
    weights.save_parameters(model.named_parameters(), path)
    return path


def load_kept(model: PreTrainedModel, output_dir: Path) -> bool:
    """Load the weights that `keep_weights` wrote into ``model``, in place.

    Returns:
        False if there are none; the model is unchanged.
    """
    path = output_dir / KEPT
    if not path.is_file():
        return False
    with safe_open(path, framework="pt") as file:
        for name, parameter in model.named_parameters():
            parameter.data = file.get_tensor(name).to(parameter.device)
    return True
