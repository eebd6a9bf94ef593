"""Unlearned weights that could not be saved as a model, kept so that training is not lost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import safe_open

from .. import weights

if TYPE_CHECKING:
    from transformers import PreTrainedModel

KEPT = "unlearned.safetensors"


def keep_weights(model: PreTrainedModel, output_dir: Path) -> Path:
    """Write all parameters to ``output_dir``, where the same run finds them instead of training.

    Args:
        model: the unlearned model.
        output_dir: folder of its training.

    Returns:
        the file, in safetensors.
    """
    path = output_dir / KEPT
    weights.save_parameters(model.named_parameters(), path)
    return path


def load_kept(model: PreTrainedModel, output_dir: Path) -> bool:
    """Give ``model`` the weights that `keep_weights` wrote, in place.

    Returns:
        False where there are none; the model is as it was.
    """
    path = output_dir / KEPT
    if not path.is_file():
        return False
    with safe_open(path, framework="pt") as file:
        for name, parameter in model.named_parameters():
            parameter.data = file.get_tensor(name).to(parameter.device)
    return True
