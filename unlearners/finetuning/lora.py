"""Finetuning of a low-rank adapter, merged afterwards."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, ClassVar

from ..validation import COUNT, POSITIVE, SHARE, Rule, check
from .base import Finetuning

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from transformers import PreTrainedModel

    from ..weights import Edit


TARGETS = ("all-linear", "mlp", "attention")
_LORA_RULES: dict[str, Rule] = {
    "rank": COUNT,
    "alpha": POSITIVE,
    "dropout": SHARE,
    "targets": (
        lambda v: v in TARGETS if isinstance(v, str) else _is_names(v),
        f"{', '.join(TARGETS)} or a list of names",
    ),
}


def _is_names(value: Any) -> bool:
    return isinstance(value, tuple) and value != () and all(isinstance(v, str) for v in value)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoRA(Finetuning):
    """A low-rank adapter on linear projections (arXiv 2106.09685): W + (alpha / rank) B A.

    Experts that are kept in one tensor have an adapter each, through PEFT's ``target_parameters``.
    Of a multimodal model only the language model is adapted.

    Attributes:
        rank: of B A.
        alpha: scale of the update, divided by the rank.
        dropout: probability with which the adapter's inputs are dropped in training. Experts, and
            the MLPs next to them, have none: PEFT adds their update to the weight itself.
        targets: ``all-linear``, ``attention`` or ``mlp`` (every linear projection and expert,
            those inside or those outside attention blocks; never the output head, a weight that
            two modules share, or what PEFT cannot adapt), or names of modules.
    """

    name: ClassVar[str] = "lora"

    rank: int = 16
    alpha: float = 32
    dropout: float = 0.05
    targets: str | tuple[str, ...] = "all-linear"

    def __post_init__(self) -> None:
        """Check every parameter.

        Raises:
            UnlearnerError: the first one that is out of range.
        """
        if isinstance(self.targets, list):
            object.__setattr__(self, "targets", tuple(self.targets))
        check(self, _LORA_RULES, "lora ")
        if self.alpha == int(self.alpha):  # 32 and 32.0 are one setting, and one record
            object.__setattr__(self, "alpha", int(self.alpha))

    def prepare(
        self, model: PreTrainedModel, dtype: torch.dtype, originals: Path | None
    ) -> PreTrainedModel:
        """Freeze the model as it is and attach an adapter whose weights are in ``dtype``."""
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
        """Merge the edited update: in float32, rounded once to the weight's dtype."""
        from .adapter import merge_adapter

        return merge_adapter(model, edit)
