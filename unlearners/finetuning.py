"""Finetuning of all weights, or of a low-rank adapter that is merged afterwards."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from ._rules import COUNT, POSITIVE, SHARE, Rule, check
from .base import UnlearnerError

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from transformers import PreTrainedModel

    Edit = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

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
class Finetuning(abc.ABC):
    """Preparation of a model for training, and the way back to one set of weights.

    The implementation imports peft when it is needed, so that a configuration is cheap to read.
    """

    name: ClassVar[str]

    @abc.abstractmethod
    def prepare(
        self, model: PreTrainedModel, dtype: torch.dtype, originals: Path | None
    ) -> PreTrainedModel:
        """Make the model ready for training.

        Args:
            model: the target model, changed in place.
            dtype: of the weights that are trained.
            originals: file for the target's weights, where ``finish`` is to edit with them.

        Returns:
            the model to train, with or without an adapter around it.

        Raises:
            UnlearnerError: the model has nothing to train.
        """

    @abc.abstractmethod
    def finish(
        self,
        model: PreTrainedModel,
        dtypes: dict[str, torch.dtype],
        originals: Path | None,
        edit: Edit,
    ) -> PreTrainedModel:
        """The trained model as one set of weights.

        Args:
            model: what ``prepare`` returned, trained.
            dtypes: by parameter name, those the model came in.
            originals: the file given to ``prepare``.
            edit: from target and trained value of a weight, float32, to its final value.
        """

    def save_adapter(self, model: PreTrainedModel, folder: Path) -> None:  # noqa: B027
        """Save what ``prepare`` has put around the model, if anything."""

    def to_dict(self) -> dict[str, Any]:
        """The parameters as JSON-compatible values; ``get_finetuning(name, **d)`` takes them."""
        fields = dataclasses.asdict(self)
        return {k: list(v) if isinstance(v, tuple) else v for k, v in fields.items()}


@dataclasses.dataclass(frozen=True, kw_only=True)
class FullFinetuning(Finetuning):
    """Every weight of the language model is trained."""

    name: ClassVar[str] = "full"

    def prepare(
        self, model: PreTrainedModel, dtype: torch.dtype, originals: Path | None
    ) -> PreTrainedModel:
        """Cast the weights to ``dtype``, and freeze all others."""
        from . import _weights

        if originals is not None and not originals.exists():
            _weights.save_parameters(_weights.trained_parameters(model), originals)
        _weights.make_trainable(model, dtype)
        return model

    def finish(
        self,
        model: PreTrainedModel,
        dtypes: dict[str, torch.dtype],
        originals: Path | None,
        edit: Edit,
    ) -> PreTrainedModel:
        """Edit the weights if originals were kept, and cast them back."""
        from . import _weights

        if originals is not None:
            _weights.edit_parameters(model, originals, edit)
        _weights.cast(model, dtypes)
        return model


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
        from ._adapter import attach_adapter

        return attach_adapter(model, self, dtype)

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
        from ._adapter import merge_adapter

        return merge_adapter(model, edit)


_FINETUNINGS: dict[str, type[Finetuning]] = {cls.name: cls for cls in (FullFinetuning, LoRA)}


def get_finetuning(name: str, **params: Any) -> Finetuning:
    """Build the finetuning ``full`` or ``lora`` with the given parameters.

    Raises:
        UnlearnerError: an unknown name or parameter, or a value out of range.
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
    return cls(**params)
