"""What a quantizer is: a frozen configuration that is called on a model."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import ConfigDict

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedModel


class QuantizerError(ValueError):
    """A quantizer was named, configured or used wrongly; the message is one line for the user."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Quantizer:
    """Base of all quantizers: a frozen, keyword-only dataclass that is its own configuration.

    Subclasses are dataclasses too (``@dataclass(frozen=True, kw_only=True)``), check their
    fields in ``__post_init__`` (raising ``ValueError``) and implement ``__call__``.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    def __call__(self, model: PreTrainedModel) -> PreTrainedModel:
        """Return the quantized model; the one given may be consumed.

        Raises:
            QuantizerError: nothing in the model can be quantized, or its weights are not finite.
        """
        raise NotImplementedError

    def save(self, model: PreTrainedModel, folder: Path) -> None:
        """Write ``model``, as this quantizer returned it, to an existing folder.

        By default an ordinary Hugging Face folder; a quantizer whose modules ``from_pretrained``
        does not know overrides this together with `load`.
        """
        model.save_pretrained(folder)

    def load(self, folder: Path) -> PreTrainedModel:
        """Load what `save` wrote, ready for evaluation and with the logits of the model saved."""
        from transformers import AutoModelForCausalLM

        return AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True)

    def to_dict(self) -> dict[str, Any]:
        """The configuration as JSON values; ``get_quantizer(name, **values)`` takes it back."""
        return json.loads(json.dumps(dataclasses.asdict(self)))
