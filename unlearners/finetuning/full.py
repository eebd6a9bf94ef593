"""Finetuning of all weights."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

from .base import Finetuning

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from transformers import PreTrainedModel

    from ..weights import Edit


@dataclasses.dataclass(frozen=True, kw_only=True)
class FullFinetuning(Finetuning):
    """Train every weight of the language model."""

    name: ClassVar[str] = "full"

    def prepare(
        self, model: PreTrainedModel, dtype: torch.dtype, originals: Path | None
    ) -> PreTrainedModel:
        """Cast the weights of the language model to ``dtype`` and freeze all others."""
        from .. import weights

        if originals is not None and not originals.exists():
            weights.save_parameters(weights.trained_parameters(model), originals)
        weights.make_trainable(model, dtype)
        return model

    def finish(
        self,
        model: PreTrainedModel,
        dtypes: dict[str, torch.dtype],
        originals: Path | None,
        edit: Edit,
    ) -> PreTrainedModel:
        """Edit the weights if their originals were saved, and restore the dtypes."""
        from .. import weights

        if originals is not None:
            weights.edit_parameters(model, originals, edit)
        weights.cast(model, dtypes)
        return model
