"""Base class of finetunings: the weights that are trained, and the way back to one model."""

from __future__ import annotations

import abc
import dataclasses
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from transformers import PreTrainedModel

    from ..weights import Edit


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
