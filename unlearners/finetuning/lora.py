"""Finetuning of a low-rank adapter, which is merged after training."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from .base import Finetuning

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from transformers import PreTrainedModel

    from ..weights import Edit


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoRA(Finetuning):
    """A low-rank adapter on linear projections (arXiv 2106.09685): W + (alpha / rank) B A.

    Experts that share a tensor get one adapter each, through PEFT's ``target_parameters``. Only
    the language model of a multimodal model is adapted.

    Attributes:
        rank: Rank r of the update B A.
        alpha: Scale of the update before division by the rank.
        dropout: Dropout probability of the adapter's inputs in training, 0 to below 1. It has no
            effect on experts and on the MLPs next to them, where PEFT adds the update to the
            weight itself.
        targets: Weights to adapt. ``"all-linear"`` is every linear projection and expert,
            ``"attention"`` those inside attention blocks, ``"mlp"`` those outside; none of these
            includes the output head, a weight that two modules share, or a module that PEFT
            cannot adapt. Otherwise the names of modules, or their last parts.
    """

    name: ClassVar[str] = "lora"

    rank: PositiveInt = 16
    alpha: PositiveFloat = 32
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.05
    targets: (
        Literal["all-linear", "mlp", "attention"] | Annotated[tuple[str, ...], Field(min_length=1)]
    ) = "all-linear"

    def __post_init__(self) -> None:
        """Validate every field; write an integral ``alpha`` as an integer."""
        super().__post_init__()
        if self.alpha == int(self.alpha):  # 32 and 32.0 are one setting, and one record
            object.__setattr__(self, "alpha", int(self.alpha))

    def prepare(
        self, model: PreTrainedModel, dtype: torch.dtype, originals: Path | None
    ) -> PreTrainedModel:
        """Freeze the model and attach an adapter with weights in ``dtype``."""
        from .adapter import attach_adapter

        return attach_adapter(
            model,
            rank=self.rank,
            alpha=self.alpha,
            dropout=self.dropout,
            targets=self.targets,
            dtype=dtype,
        )

    def save_adapter(self, model: PreTrainedModel, folder: Path) -> None:
        """Save the adapter in PEFT's format (safetensors)."""
        model.save_pretrained(folder)

    def finish(
        self,
        model: PreTrainedModel,
        dtypes: dict[str, torch.dtype],
        originals: Path | None,
        edit: Edit,
    ) -> PreTrainedModel:
        """Merge the edited update in float32 and round once to the weight's dtype."""
        from .adapter import merge_adapter

        return merge_adapter(model, edit)
