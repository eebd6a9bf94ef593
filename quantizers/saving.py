"""Saving and loading of quantized models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from .base import Quantizer
from .calibration import CalibratedQuantizer
from .errors import QuantizerError
from .registry import get_quantizer, quantizer_name

if TYPE_CHECKING:
    from transformers import PreTrainedModel

QUANTIZER_FILE = "quantizer.json"


def save_quantized(model: PreTrainedModel, folder: str | Path, quantizer: Quantizer) -> None:
    """Write a quantized model to a folder that `load_quantized` reads.

    ``from_pretrained`` reads it too, except for quanto. ``quantizer.json`` next to the weights
    contains the quantizer, its parameters and the origin of its calibration text. The tokenizer is
    not saved.

    Args:
        model: Model that ``quantizer`` returned.
        folder: Folder to write, created if missing.
        quantizer: Quantizer of the model, bound to its calibration text if it has any.

    Raises:
        QuantizerError: The quantizer is not registered.
    """
    folder = Path(folder)
    record = {"quantizer": quantizer_name(quantizer), "parameters": quantizer.to_dict()}
    if isinstance(quantizer, CalibratedQuantizer) and quantizer.calibration:
        record["calibration"] = quantizer.calibration.to_dict()
    folder.mkdir(parents=True, exist_ok=True)
    quantizer.save(model, folder)
    (folder / QUANTIZER_FILE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def load_quantized(folder: str | Path) -> PreTrainedModel:
    """Load a model that `save_quantized` wrote, in evaluation mode.

    Raises:
        QuantizerError: The folder contains no quantized model, or its weights do not fit.
    """
    folder = Path(folder)
    return read_quantizer(folder).load(folder)


def read_quantizer(folder: str | Path) -> Quantizer:
    """Read the quantizer of a quantized model's folder.

    Raises:
        QuantizerError: The folder was not written by `save_quantized`, or its quantizer is not
            installed here.
    """
    path = Path(folder) / QUANTIZER_FILE
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return get_quantizer(record["quantizer"], **record["parameters"])
    except FileNotFoundError:
        raise QuantizerError(
            f"{folder} has no {QUANTIZER_FILE}; it is not a folder written by save_quantized"
        ) from None
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise QuantizerError(f"{path} cannot be read: {error!r}") from error
