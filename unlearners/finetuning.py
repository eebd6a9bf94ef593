"""Which weights are trained: all of them, or a low-rank adapter that is merged afterwards."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from .base import UnlearnerError

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import PreTrainedModel

    Edit = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

TARGETS = ("all-linear", "mlp", "attention")


@dataclasses.dataclass(frozen=True, kw_only=True)
class FullFinetuning:
    """Every weight is trained."""

    name: ClassVar[str] = "full"

    def prepare(
        self, model: PreTrainedModel, dtype: torch.dtype, originals: Path | None
    ) -> PreTrainedModel:
        """Make the model ready for training.

        Args:
            model: the target model, changed in place.
            dtype: of the weights in training.
            originals: where the target's weights are kept for ``finish``, if an edit needs them.
        """
        from . import _weights

        if originals is not None:
            _weights.save_parameters(model, originals)
        _weights.cast_parameters(model, dtype)
        return model.requires_grad_(True)

    def finish(
        self, model: PreTrainedModel, dtype: torch.dtype, originals: Path | None, edit: Edit
    ) -> PreTrainedModel:
        """The trained model in ``dtype``, its weights edited where originals were kept."""
        from . import _weights

        if originals is not None:
            _weights.edit_parameters(model, originals, edit)
        _weights.cast_parameters(model, dtype)
        return model

    def to_dict(self) -> dict[str, Any]:
        """The configuration as JSON-compatible values; ``get_finetuning`` takes it back."""
        return {"name": self.name}


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoRA:
    """A low-rank adapter on linear projections (arXiv 2106.09685): W + (alpha / rank) B A.

    Attributes:
        rank: of B A.
        alpha: scale of the update, divided by the rank.
        dropout: probability with which the adapter's inputs are dropped in training.
        targets: ``all-linear``, ``mlp`` or ``attention`` (every linear projection, those outside
            or those inside attention blocks; never the output head), or names of modules.
    """

    name: ClassVar[str] = "lora"

    rank: int = 16
    alpha: float = 32
    dropout: float = 0.05
    targets: str | tuple[str, ...] = "all-linear"

    def __post_init__(self) -> None:
        """Check every value.

        Raises:
            UnlearnerError: the first parameter that is out of range.
        """
        if not isinstance(self.targets, str):
            object.__setattr__(self, "targets", tuple(self.targets))
        if self.rank < 1:
            raise UnlearnerError(f"lora rank={self.rank}: expected an integer of at least 1")
        if self.alpha <= 0:
            raise UnlearnerError(f"lora alpha={self.alpha}: expected a number above 0")
        if not 0 <= self.dropout < 1:
            raise UnlearnerError(f"lora dropout={self.dropout}: expected 0 to below 1")
        if not self.targets or (isinstance(self.targets, str) and self.targets not in TARGETS):
            raise UnlearnerError(
                f"lora targets={self.targets!r}: expected {', '.join(TARGETS)} or a list of names"
            )

    def prepare(
        self, model: PreTrainedModel, dtype: torch.dtype, originals: Path | None
    ) -> PeftModel:
        """Freeze the model and attach an adapter whose weights are kept in ``dtype``.

        Raises:
            UnlearnerError: no module has a name in ``targets``.
        """
        from . import _weights

        adapted = _weights.attach_adapter(model, self)
        _weights.cast_adapter(adapted, dtype)
        return adapted

    def finish(
        self, model: PeftModel, dtype: torch.dtype, originals: Path | None, edit: Edit
    ) -> PreTrainedModel:
        """The base model with the edited update merged: in float32, rounded once to its dtype."""
        from . import _weights

        return _weights.merge_adapter(model, edit)

    def to_dict(self) -> dict[str, Any]:
        """The configuration as JSON-compatible values; ``get_finetuning`` takes it back."""
        targets = self.targets if isinstance(self.targets, str) else list(self.targets)
        return {"name": self.name} | dataclasses.asdict(self) | {"targets": targets}


Finetuning = FullFinetuning | LoRA

FINETUNINGS: dict[str, type[FullFinetuning] | type[LoRA]] = {
    cls.name: cls for cls in (FullFinetuning, LoRA)
}


def get_finetuning(name: str, **params: Any) -> Finetuning:
    """Build the finetuning ``full`` or ``lora`` with the given parameters.

    Raises:
        UnlearnerError: an unknown name or parameter, or a value out of range.
    """
    if name not in FINETUNINGS:
        raise UnlearnerError(f"unknown finetuning '{name}': available: {', '.join(FINETUNINGS)}")
    cls = FINETUNINGS[name]
    known = [field.name for field in dataclasses.fields(cls)]
    for param in params:
        if param not in known:
            raise UnlearnerError(
                f"finetuning '{name}' has no parameter '{param}': "
                f"available: {', '.join(known) or 'none'}"
            )
    return cls(**params)
