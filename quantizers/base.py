"""Base class of all quantizers: a frozen configuration that is called on a model."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import ConfigDict

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn
    from transformers import PreTrainedModel


@dataclasses.dataclass(frozen=True, kw_only=True)
class Quantizer:
    """Base of all quantizers: a frozen, keyword-only dataclass that is its own configuration.

    Subclasses are dataclasses too (``@dataclass(frozen=True, kw_only=True)``), check their
    fields in ``__post_init__`` (raising ``ValueError``) and implement ``__call__``. Each has a
    field, class attribute or property ``bits``; registration refuses a class without it.

    Attributes:
        bits: Bits per weight without scales, 16 for bfloat16; None for a quantizer that leaves
            the weights as they are.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    if TYPE_CHECKING:  # at run time it would be the default of a subclass' field of this name

        @property
        def bits(self) -> float | None: ...  # noqa: D102

    @property
    def depends_on_batch(self) -> bool:
        """True where the outputs for one text depend on the other texts of its batch."""
        return False

    def __call__(self, model: PreTrainedModel) -> PreTrainedModel:
        """Return the quantized model; the one given may be consumed.

        Raises:
            QuantizerError: nothing in the model can be quantized, or its weights are not finite.
        """
        raise NotImplementedError

    def dequantize(self, module: nn.Module, parameter: str = "weight") -> Tensor | None:
        """Return the weight that a layer of the quantized model computes with.

        By default the weight itself where it is a plain floating parameter, otherwise the outputs
        of the layer for an identity matrix, its bias set to zero. This holds for layers of any
        library that quantizes weights only.

        Args:
            module: A layer of the quantized model, quantized or left alone, or a module of
                experts.
            parameter: Name of the weight in ``module``; experts have others than ``"weight"``.

        Returns:
            A matrix of a floating dtype: outputs × inputs, as in ``nn.Linear``, or inputs ×
            outputs where ``module`` is transformers' ``Conv1D``. The weights of experts come in
            one tensor of the parameter's shape. None where the weights of the quantized model do
            not correspond one by one to those of the model given.

        Raises:
            QuantizerError: the layer has neither such a weight nor ``in_features``.
        """
        from .layers import effective_weight

        return effective_weight(module, parameter)

    def save(self, model: PreTrainedModel, folder: Path) -> None:
        """Write ``model``, as this quantizer returned it, to an existing folder.

        By default an ordinary Hugging Face folder; a quantizer whose modules ``from_pretrained``
        does not know overrides this together with `load`.
        """
        model.save_pretrained(folder)

    def load(self, folder: Path) -> PreTrainedModel:
        """Load what `save` wrote, ready for evaluation and with the logits of the model saved.

        Raises:
            ModelError: a tensor is missing, unexpected or of another shape.
        """
        from .loading import load_language_model

        return load_language_model(folder, use_safetensors=True)

    def to_dict(self) -> dict[str, Any]:
        """Configuration as JSON values; ``get_quantizer(name, **values)`` takes it back."""
        return json.loads(json.dumps(dataclasses.asdict(self)))
