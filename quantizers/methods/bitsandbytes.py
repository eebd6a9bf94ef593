"""4-bit and 8-bit quantization by bitsandbytes, through the integration of transformers."""

from __future__ import annotations

import dataclasses
import logging
import re
from collections.abc import Collection
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from pydantic import NonNegativeFloat
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from ..base import Quantizer
from ..errors import QuantizerError
from ..registry import register_quantizer
from ..replaced import replaceable_layers, try_quantized

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedModel


@register_quantizer("bnb-fp4", quant_type="fp4")
@register_quantizer("bnb-nf4", quant_type="nf4")
@dataclasses.dataclass(frozen=True, kw_only=True)
class BitsAndBytes4bit(Quantizer):
    """4-bit floats in blocks of 64 weights that share a scale.

    ``bnb-fp4`` is the "4-bit" of published unlearning code: ``load_in_4bit`` with the defaults of
    transformers, which is FP4 and not an integer grid. Products are computed in the model's dtype.

    Attributes:
        quant_type: Values of the grid, ``"fp4"`` (e2m1) or ``"nf4"`` (quantiles of a normal
            distribution).
        double_quant: Quantize the scales too.
        skip: Shell-style patterns of names of modules that are not quantized.
        quantize_head: Quantize the output head too.
    """

    bits: ClassVar[int] = 4
    quant_type: Literal["fp4", "nf4"]
    double_quant: bool = False
    skip: tuple[str, ...] = ()
    quantize_head: bool = False

    def __call__(self, model: PreTrainedModel) -> PreTrainedModel:
        """Replace every linear layer by bitsandbytes' ``Linear4bit``.

        Raises:
            QuantizerError: Bitsandbytes is not installed, nothing to quantize, a layer cannot be
                replaced (see `replaceable_layers`), or a weight is not finite.
        """
        return _quantize(
            model,
            self.skip,
            self.quantize_head,
            load_in_4bit=True,
            bnb_4bit_quant_type=self.quant_type,
            bnb_4bit_use_double_quant=self.double_quant,
            bnb_4bit_compute_dtype=model.dtype,
        )

    def dequantize(self, module: nn.Module, parameter: str = "weight") -> Tensor | None:
        """Return the weight of a layer, (outputs, inputs), in the model's original dtype."""
        from bitsandbytes.functional import dequantize_4bit
        from bitsandbytes.nn import Linear4bit

        if isinstance(module, Linear4bit):
            weight: Any = module.weight
            return dequantize_4bit(weight.data, weight.quant_state)
        return super().dequantize(module, parameter)

    def save(self, model: PreTrainedModel, folder: Path) -> None:
        """Write an ordinary Hugging Face folder."""
        _save(model, folder)

    def load(self, folder: Path) -> PreTrainedModel:
        """Load a saved folder."""
        return _compute_as_configured(super().load(folder))


@register_quantizer("bnb-int8")
@dataclasses.dataclass(frozen=True, kw_only=True)
class BitsAndBytes8bit(Quantizer):
    """LLM.int8(): int8 weights with a scale per output, int8 activations with a scale per token.

    Input features with a value beyond ``threshold`` are multiplied in floating point instead.
    Weights and activations are cast to float16 before they are rounded to int8.

    Attributes:
        threshold: Magnitude from which an input feature is an outlier, at least 0; 0 for no
            outliers.
        skip: Shell-style patterns of names of modules that are not quantized.
        quantize_head: Quantize the output head too.
    """

    bits: ClassVar[int] = 8
    threshold: NonNegativeFloat = 6.0
    skip: tuple[str, ...] = ()
    quantize_head: bool = False

    @property
    def depends_on_batch(self) -> bool:
        """True if there is a threshold: an outlier in one text affects the feature in all texts."""
        return self.threshold > 0

    def __call__(self, model: PreTrainedModel) -> PreTrainedModel:
        """Replace every linear layer by bitsandbytes' ``Linear8bitLt``.

        Raises:
            QuantizerError: Bitsandbytes is not installed, nothing to quantize, a layer cannot be
                replaced (see `replaceable_layers`), or a weight is not finite.
        """
        return _quantize(
            model,
            self.skip,
            self.quantize_head,
            load_in_8bit=True,
            llm_int8_threshold=self.threshold,
        )

    def dequantize(self, module: nn.Module, parameter: str = "weight") -> Tensor | None:
        """Return the weight of a layer, (outputs, inputs) float32: index · scale / 127."""
        from bitsandbytes.functional import int8_vectorwise_dequant
        from bitsandbytes.nn import Linear8bitLt

        if isinstance(module, Linear8bitLt):
            weight: Any = module.weight
            # The first forward pass moves the scales from the weight to the state.
            scales = weight.SCB if module.state.SCB is None else module.state.SCB
            return int8_vectorwise_dequant(weight.data, scales)
        return super().dequantize(module, parameter)

    def save(self, model: PreTrainedModel, folder: Path) -> None:
        """Write an ordinary Hugging Face folder."""
        _save(model, folder)


@torch.no_grad()
def _quantize(
    model: PreTrainedModel, skip: tuple[str, ...], head: bool, **settings: Any
) -> PreTrainedModel:
    """Quantize a model in memory as ``from_pretrained(quantization_config=...)`` would."""
    hf_quantizer = _hf_quantizer(**settings)
    layers = replaceable_layers(model, "bitsandbytes", skip=skip, head=head, plain=True)
    if any(type(module).__name__ == "Llama4TextExperts" for module in model.modules()):
        raise QuantizerError(
            "bitsandbytes cannot leave out the experts of Llama 4: transformers looks for other "
            "modules in their place when it loads a quantized folder; use rtn-int4 or rtn-int8"
        )
    originals = {layer.name: (layer.weight, layer.module.bias) for layer in layers}
    hf_quantizer.quantization_config.llm_int8_skip_modules = _left_alone(model, originals)
    hf_quantizer.preprocess_model(model, device_map=None)
    convert = hf_quantizer.get_quantize_ops().convert
    del layers
    while originals:  # a layer taken from them is freed once quantized
        name, (original, bias) = originals.popitem()
        key = f"{name}.weight"
        module = model.get_submodule(name)
        if not hasattr(module, "source_cls"):  # transformers keeps it in float32
            continue
        module.weight = convert({key: original.detach()}, model=model, full_layer_name=key)[key]
        module.bias = bias
    model.hf_quantizer = hf_quantizer
    hf_quantizer.postprocess_model(model)
    model.train(model.training)  # new layers are in training mode
    try_quantized(_compute_as_configured(model), "bitsandbytes")
    for module in model.modules():
        state: Any = getattr(module, "state", None)
        if hasattr(state, "SCB"):  # undo what the first forward pass of int8 does
            weight: Any = module.weight
            weight.CB, weight.SCB, state.CB, state.SCB = state.CB, state.SCB, None, None
    return model


def _save(model: PreTrainedModel, folder: Path) -> None:
    """Save under the names of the original checkpoint.

    If these names would join or split quantized layers (HRM), the names of the model are used,
    which transformers reads too.
    """
    from transformers.core_model_loading import revert_weight_conversion

    weights = {
        f"{name}.weight": torch.empty(24, 24, device="meta")
        for name, module in model.named_modules()
        if type(module).__module__.startswith("bitsandbytes")
    }
    original = revert_weight_conversion(model, weights)
    same = all(any(weight is own for own in weights.values()) for weight in original.values())
    model.save_pretrained(folder, save_original_format=same)


def _left_alone(model: nn.Module, quantized: Collection[str]) -> list[str]:
    """List the modules that transformers must skip to replace the ``quantized`` layers only.

    These are the largest parts without a quantized layer. transformers uses the names as regular
    expressions that match at the beginning or at the end.
    """
    above = {""} | {
        ".".join(path[:depth])
        for path in (name.split(".") for name in quantized)
        for depth in range(1, len(path))
    }
    names = []
    for name, module in model.named_modules():
        if name in above or name in quantized or name.rpartition(".")[0] not in above:
            continue
        if any(isinstance(part, nn.Linear | Conv1D) for part in module.modules()):
            clash = any(re.match(name, other) or other.endswith(name) for other in quantized)
            names.append(rf"{re.escape(name)}(\.|$)" if clash else name)
    return names


def _compute_as_configured(model: PreTrainedModel) -> PreTrainedModel:
    """Turn off the bfloat16 kernel that bitsandbytes uses for 4-bit layers on some CPUs.

    On a CPU with AVX512-BF16 it ignores the compute dtype, rounds the scales to bfloat16, and
    fails unless inputs are a multiple of 64 and outputs of 32.
    """
    shortcut = "support_avx512bf16_for_cpu"
    for module in model.modules():
        if hasattr(module, shortcut):
            setattr(module, shortcut, False)
    return model


def _hf_quantizer(**settings: Any) -> Any:
    if find_spec("bitsandbytes") is None:
        raise QuantizerError(
            "bitsandbytes is not installed; install it with pip install 'lm-eval-muse[bnb]'"
        )
    from transformers import BitsAndBytesConfig
    from transformers.quantizers.auto import AutoHfQuantizer

    hf_quantizer = AutoHfQuantizer.from_config(BitsAndBytesConfig(**settings), pre_quantized=False)
    try:
        hf_quantizer.validate_environment()
    except (ImportError, RuntimeError) as error:
        raise QuantizerError(f"bitsandbytes cannot be used here: {error}") from error
    # It would warn in every layer and forward pass that inputs are cast to float16.
    logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
    return hf_quantizer
