"""Base class of finetunings."""

from __future__ import annotations

import abc
import dataclasses
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import ConfigDict

from quantizers.parameters import validate_fields

from ..errors import UnlearnerError

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from transformers import PreTrainedModel

    from ..weights import Edit


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finetuning(abc.ABC):
    """Preparation of a model for training, and the way back to one set of weights.

    Implementations import peft only in these methods, so that a configuration is cheap to read.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", allow_inf_nan=False)

    name: ClassVar[str]

    def __post_init__(self) -> None:
        """Validate and convert every field by its annotation.

        Raises:
            UnlearnerError: A value is of the wrong type or out of range.
        """
        validate_fields(self, UnlearnerError)

    @abc.abstractmethod
    def prepare(
        self, model: PreTrainedModel, dtype: torch.dtype, originals: Path | None
    ) -> PreTrainedModel:
        """Make the model ready for training.

        Args:
            model: Target model, changed in place.
            dtype: Dtype of the weights that are trained.
            originals: File to which the target's weights are saved for ``finish``; None if the
                method does not edit weights.

        Returns:
            The model to train, with or without an adapter around it.

        Raises:
            UnlearnerError: The model has nothing to train.
        """

    @abc.abstractmethod
    def finish(
        self,
        model: PreTrainedModel,
        dtypes: dict[str, torch.dtype],
        originals: Path | None,
        edit: Edit,
    ) -> PreTrainedModel:
        """Return the trained model as one set of weights.

        Args:
            model: Model that ``prepare`` returned, trained.
            dtypes: Original dtype of every parameter, by name.
            originals: The file given to ``prepare``.
            edit: Function from a weight's target and trained values, float32, to its final value.
        """

    def save_adapter(self, model: PreTrainedModel, folder: Path) -> None:  # noqa: B027
        """Save the adapter that ``prepare`` attached, if any.

        Args:
            model: Model that ``prepare`` returned, trained.
            folder: Folder of the adapter, created if missing.
        """

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values; ``get_finetuning(name, **values)`` restores them."""
        fields = dataclasses.asdict(self)
        return {k: list(v) if isinstance(v, tuple) else v for k, v in fields.items()}
