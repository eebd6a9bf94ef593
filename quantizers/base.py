"""Base class of all quantizers: a frozen configuration that is called on a model."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import ConfigDict

from .errors import QuantizerError
from .parameters import validate_fields

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn
    from transformers import PreTrainedModel


@dataclasses.dataclass(frozen=True, kw_only=True)
class Quantizer:
    """Base of all quantizers: a frozen, keyword-only dataclass that is its own configuration.

    Subclasses are dataclasses too (``@dataclass(frozen=True, kw_only=True)``). They declare the
    range of a field in its annotation (``Annotated[int, Field(ge=1)]``), check fields against each
    other in ``__post_init__`` after ``super().__post_init__()``, and implement ``__call__``. Each
    has a field, class attribute or property ``bits``; registration refuses a class without it.

    Attributes:
        bits: Bits per weight without scales, 16 for bfloat16; None for a quantizer that leaves
            the weights unchanged.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", allow_inf_nan=False)

    if TYPE_CHECKING:  # at run time it would be the default of a subclass' field of this name

        @property
        def bits(self) -> float | None: ...  # noqa: D102

    def __post_init__(self) -> None:
        """Validate and convert every field by its annotation.

        Raises:
            QuantizerError: A value is of the wrong type or out of range.
        """
        validate_fields(self, QuantizerError)

    @property
    def depends_on_batch(self) -> bool:
        """True if the outputs for a text depend on the other texts in its batch."""
        return False

    def __call__(self, model: PreTrainedModel) -> PreTrainedModel:
        """Quantize a model.

        Args:
            model: Unquantized model. Its weights may be replaced in place, so use the returned
                model only.

        Returns:
            The quantized model.

        Raises:
            QuantizerError: Nothing in the model can be quantized, or its weights are not finite.
        """
        raise NotImplementedError

    def dequantize(self, module: nn.Module, parameter: str = "weight") -> Tensor | None:
        """Return the weight that a layer of the quantized model computes with.

        The default returns a plain floating-point parameter itself. For any other layer it returns
        the outputs for an identity matrix with the bias set to zero, which is correct for every
        library that quantizes weights only.

        Args:
            module: Layer of the quantized model, quantized or not, or a module of experts.
            parameter: Name of the weight in ``module``; ``"weight"`` except in modules of experts.

        Returns:
            Matrix of a floating-point dtype: (outputs, inputs), as in ``nn.Linear``, or (inputs,
            outputs) if ``module`` is transformers' ``Conv1D``. The weights of experts are one
            tensor of the parameter's shape. None if the weights of the quantized model do not
            correspond one by one to those of the original model.

        Raises:
            QuantizerError: The layer has neither such a weight nor ``in_features``.
        """
        from .layers import effective_weight

        return effective_weight(module, parameter)

    def save(self, model: PreTrainedModel, folder: Path) -> None:
        """Write a model that this quantizer returned.

        The default writes an ordinary Hugging Face folder. A subclass with modules that
        ``from_pretrained`` cannot load overrides this method together with `load`.

        Args:
            model: The quantized model.
            folder: Existing folder.
        """
        model.save_pretrained(folder)

    def load(self, folder: Path) -> PreTrainedModel:
        """Load a model that `save` wrote, in evaluation mode; its logits are those of that model.

        Raises:
            ModelError: A tensor is missing, unexpected or of another shape.
        """
        from .loading import load_language_model

        return load_language_model(folder, use_safetensors=True)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values; ``get_quantizer(name, **values)`` restores them."""
        return json.loads(json.dumps(dataclasses.asdict(self)))
