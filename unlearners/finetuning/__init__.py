"""Finetuning: the weights that a method trains, all of them or a low-rank adapter."""

from __future__ import annotations

import dataclasses
from typing import Any

from ..errors import UnlearnerError
from .base import Finetuning
from .full import FullFinetuning
from .lora import LoRA

__all__ = ["Finetuning", "FullFinetuning", "LoRA", "get_finetuning"]

_FINETUNINGS: dict[str, type[Finetuning]] = {cls.name: cls for cls in (FullFinetuning, LoRA)}


def get_finetuning(name: str, **params: Any) -> Finetuning:
    """Build the finetuning ``full`` or ``lora`` with the given parameters.

    Args:
        name: ``"full"`` or ``"lora"``.
        **params: Parameters of `FullFinetuning` or `LoRA`.

    Raises:
        UnlearnerError: An unknown name or parameter, or a bad value.
    """
    if name not in _FINETUNINGS:
        raise UnlearnerError(f"unknown finetuning '{name}': available: {', '.join(_FINETUNINGS)}")
    cls = _FINETUNINGS[name]
    known = [field.name for field in dataclasses.fields(cls)]
    for param in params:
        if param not in known:
            raise UnlearnerError(
                f"finetuning '{name}' has no parameter '{param}': "
                f"available: {', '.join(known) or 'none'}"
            )
    try:
        return cls(**params)
    except UnlearnerError as error:
        raise UnlearnerError(f"finetuning '{name}': {error}") from error
