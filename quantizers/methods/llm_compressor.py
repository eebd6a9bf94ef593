"""GPTQ and AWQ, by llm-compressor."""

from __future__ import annotations

import dataclasses
import io
import os
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack, redirect_stderr
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from pydantic import PositiveInt
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ..calibration import CalibratedQuantizer
from ..errors import QuantizerError
from ..layers import LinearLayer, as_linear, check_finite
from ..registry import register_quantizer
from ..replaced import replaceable_layers

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclasses.dataclass(frozen=True, kw_only=True)
class Int4(CalibratedQuantizer):
    """Base of 4-bit integer quantizers that run a recipe of llm-compressor.

    The returned model computes with the dequantized weights, in its own dtype. It is saved in the
    compressed-tensors format, which ``from_pretrained`` reads if that library is installed.
    ``Conv1D`` layers, which the format does not support, are saved dequantized.

    Attributes:
        group_size: Number of input features that share a scale. If it does not divide a layer's
            inputs, the largest smaller one of 96, 64 and 32 that does, or else the whole row.
        skip: Shell-style patterns of names of modules that are not quantized.
        quantize_head: Quantize the output head too.
    """

    bits: ClassVar[int] = 4
    group_size: PositiveInt = 128
    skip: tuple[str, ...] = ()
    quantize_head: bool = False
    symmetric: ClassVar[bool]

    def recipe(self, model: PreTrainedModel, schemes: dict[str, Any]) -> list[Any]:
        """Return the modifiers to run.

        Args:
            model: Model to quantize.
            schemes: Quantization schemes, as ``config_groups`` of a modifier takes them.
        """
        raise NotImplementedError

    def quantize(self, model: PreTrainedModel, windows: Sequence[Sequence[int]]) -> PreTrainedModel:
        """Quantize layer by layer, each calibrated on the outputs of the quantized layers before.

        Raises:
            QuantizerError: Llm-compressor is not installed, nothing to quantize, a layer cannot be
                replaced (see `replaceable_layers`), a weight is not finite, or the method fails
                on this model.
        """
        _require_library()
        layers = replaceable_layers(
            model, "llm-compressor", skip=self.skip, head=self.quantize_head, plain=True
        )
        for name, parameter in model.named_parameters():
            check_finite(name.rpartition(".")[0], parameter)
        recipe = self.recipe(model, self._schemes(layers))
        transposed = {layer.name: layer.module for layer in layers if layer.axis == 0}
        for layer in layers:
            if layer.axis == 0:
                model.set_submodule(layer.name, as_linear(layer))
        _run(model, recipe, windows)
        for name, module in transposed.items():
            weight = model.get_submodule(name).weight
            module.weight.data = weight.T.contiguous()  # type: ignore[operator]
            model.set_submodule(name, module)
        return model

    def save(self, model: PreTrainedModel, folder: Path) -> None:
        """Write a folder in the compressed-tensors format."""
        from compressed_tensors import ModelCompressor
        from compressed_tensors.offload import remove_dispatch

        compressor = ModelCompressor.from_pretrained_model(model)
        compressor.compress_model(model)
        model.save_pretrained(folder)
        compressor.update_config(folder)
        compressor.decompress_model(model)
        remove_dispatch(model)

    def load(self, folder: Path) -> PreTrainedModel:
        """Load a saved folder.

        Raises:
            QuantizerError: Llm-compressor, which provides the format, is not installed.
        """
        _require_library()
        return super().load(folder)

    def _schemes(self, layers: list[LinearLayer]) -> dict[str, Any]:
        """Return one scheme per group size that the layers need."""
        from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme

        names = defaultdict(list)
        for layer in layers:
            inputs = layer.weight.shape[layer.axis]
            sizes = (self.group_size, *(s for s in (96, 64, 32) if s < self.group_size))
            names[next((s for s in sizes if inputs % s == 0), None)].append(layer.name)
        return {
            f"group_{size or 'row'}": QuantizationScheme(
                targets=members,
                weights=QuantizationArgs(
                    num_bits=4,
                    type="int",
                    symmetric=self.symmetric,
                    strategy="group" if size else "channel",
                    group_size=size,
                ),
            )
            for size, members in names.items()
        }


@register_quantizer("gptq-int4")
@dataclasses.dataclass(frozen=True, kw_only=True)
class GPTQ(Int4):
    """GPTQ (arXiv 2210.17323): later columns compensate the rounding errors of earlier ones.

    The grid is symmetric, the Hessian is damped by 1% of its mean diagonal, and columns are
    rounded in the order of decreasing activations.
    """

    symmetric = True

    def recipe(self, model: PreTrainedModel, schemes: dict[str, Any]) -> list[Any]:
        """Return the GPTQ modifier."""
        from llmcompressor.modifiers.gptq import GPTQModifier

        return [GPTQModifier(config_groups=schemes)]


@register_quantizer("awq-int4")
@dataclasses.dataclass(frozen=True, kw_only=True)
class AWQ(Int4):
    """AWQ (arXiv 2306.00978): input features with large activations are scaled up before rounding.

    A grid search chooses the scales, which are divided out of the preceding normalization or
    projection; then weights are rounded to the nearest on an asymmetric grid. Layers without such
    a predecessor (the attention's output under grouped queries) are rounded unscaled.
    """

    symmetric = False

    def dequantize(self, module: nn.Module, parameter: str = "weight") -> Tensor | None:
        """Return None: features are scaled, so weights do not correspond to the original's."""
        return None

    def recipe(self, model: PreTrainedModel, schemes: dict[str, Any]) -> list[Any]:
        """Return the modifiers that scale and round.

        Raises:
            QuantizerError: No layer of this architecture is known to follow one that can be scaled.
        """
        from compressed_tensors.utils import match_modules_set
        from llmcompressor.modifiers.quantization import QuantizationModifier
        from llmcompressor.modifiers.transform.awq import AWQMapping, AWQModifier
        from llmcompressor.modifiers.transform.awq.mappings import AWQ_MAPPING_REGISTRY

        architecture = type(model).__name__
        known = AWQ_MAPPING_REGISTRY | {
            "GPT2LMHeadModel": [
                AWQMapping("re:.*ln_1$", ["re:.*attn.c_attn$"]),
                AWQMapping("re:.*ln_2$", ["re:.*mlp.c_fc$"]),
            ]
        }
        quantized = {name for scheme in schemes.values() for name in scheme.targets}
        names = {module: name for name, module in model.named_modules()}
        mappings = []  # by name, since the library fails on a mapping without quantized layers
        for mapping in known.get(architecture, []):
            patterns = (mapping.smooth_layer, *mapping.balance_layers)
            for (scaled,), *following in match_modules_set(model, patterns):
                followers = [names[module] for group in following for module in group]
                if not quantized.isdisjoint(followers):
                    target = mapping.activation_hook_target
                    mappings.append(AWQMapping(names[scaled], followers, target))
        if not mappings:
            raise QuantizerError(
                f"AWQ does not know which layers of {architecture} it can scale; use gptq-int4"
            )
        return [AWQModifier(mappings=mappings), QuantizationModifier(config_groups=schemes)]


def _require_library() -> None:
    if find_spec("llmcompressor") is None:
        raise QuantizerError(
            "llm-compressor is not installed; install it with "
            "pip install 'lm-eval-muse[calibrated]'"
        )
    # It would log every layer to standard output.
    os.environ.setdefault("LLM_COMPRESSOR_LOG_LEVEL", "ERROR")


def _run(model: PreTrainedModel, recipe: list[Any], windows: Sequence[Sequence[int]]) -> None:
    """Apply a recipe in place; the quantized layers then hold their dequantized weights."""
    from compressed_tensors import ModelCompressor
    from compressed_tensors.offload import remove_dispatch
    from compressed_tensors.utils import patch_attr
    from llmcompressor import oneshot
    from llmcompressor.modifiers.gptq import GPTQModifier
    from llmcompressor.pipelines.cache import IntermediatesCache
    from torch.fx._symbolic_trace import _wrapped_fns_to_patch

    processor: Any = object()  # required, though only used to encode text
    batches = [{"input_ids": torch.tensor([window])} for window in windows]
    with ExitStack() as stack:
        stack.enter_context(redirect_stderr(io.StringIO()))  # progress bars by the hundred
        # Otherwise every traced model stays in memory, in the namespace of its functions.
        stack.callback(_wrapped_fns_to_patch.update, dict(_wrapped_fns_to_patch))
        stack.callback(_wrapped_fns_to_patch.clear)
        # It reads the configuration from the model's source folder, which may not exist.
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        model.config.save_pretrained(folder)
        stack.enter_context(patch_attr(model.config, "_name_or_path", folder))
        stack.enter_context(patch_attr(GPTQModifier, "_log_rtn_fallback_summary", _refuse_fallback))
        if not torch.accelerator.is_available():  # it would pin memory, which needs an accelerator
            stack.enter_context(patch_attr(IntermediatesCache, "pin_memory", lambda *args: None))
        oneshot(
            model=model,
            recipe=recipe,
            dataset=DataLoader(batches, batch_size=None),  # type: ignore[arg-type]
            processor=processor,
            clear_sparse_session=True,  # which holds on to the model
        )
        del model.save_pretrained  # its override copies files from the source folder
        # Compressed and decompressed, the weights are those of a saved model.
        compressor = ModelCompressor.from_pretrained_model(model)
        compressor.compress_model(model)
        compressor.decompress_model(model)
    remove_dispatch(model)


def _refuse_fallback(modifier: Any) -> None:
    """Raise an error if GPTQ has only rounded some layers to the nearest."""
    names = modifier._rtn_fallback_module_names
    if names:
        raise QuantizerError(
            f"GPTQ found no inverse Hessian for {len(names)} layers, '{names[0]}' among them; "
            "calibrate on more or other text"
        )
