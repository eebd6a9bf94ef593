"""Several processes under ``accelerate launch``."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from accelerate import PartialState


def join_processes() -> PartialState:
    """Initialize and return accelerate's process state; a single process if there are no others."""
    import torch
    from accelerate import PartialState

    return PartialState(cpu=not torch.accelerator.is_available())
