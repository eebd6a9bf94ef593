"""What an unlearner is: a frozen configuration that is called on a model and its data."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import ConfigDict

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from .finetuning import Finetuning
    from .training import TrainingSettings


class UnlearnerError(ValueError):
    """An unlearner was named, configured or used wrongly; the message is one line for the user."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class UnlearningData:
    """The text to unlearn from and the text to keep.

    Attributes:
        forget: documents of the forget set.
        retain: documents of the retain set; may be empty for methods without a retain loss.
    """

    forget: Sequence[str]
    retain: Sequence[str] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Unlearner:
    """Base of all unlearners: a frozen, keyword-only dataclass that is its own configuration."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    def __call__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        data: UnlearningData,
        *,
        finetuning: Finetuning,
        training: TrainingSettings,
        output_dir: Path,
    ) -> PreTrainedModel:
        """Unlearn; return the model (an adapter already merged), in the dtype it came in."""
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        """The configuration as JSON-compatible values; ``get_unlearner`` takes it back."""
        return dataclasses.asdict(self)
