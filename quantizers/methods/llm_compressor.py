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
    """4-bit integers in groups of input features, by a recipe of llm-compressor.

    The model returned computes with the dequantized weights, in its own dtype. It is saved in the
    compressed-tensors format, which a plain ``from_pretrained`` reads where that library is
    installed. The format has no ``Conv1D``: such layers are saved dequantized.

    Attributes:
        group_size: Input features that share a scale; where a layer's inputs are no multiple of
            it, the largest of 96, 64 and 32 below it that divides them, or else a row.
        skip: Shell-style patterns of module names to leave as they are.
        quantize_head: Quantize the output head too.
    """

    bits: ClassVar[int] = 4
    group_size: PositiveInt = 128
    skip: tuple[str, ...] = ()
    quantize_head: bool = False
    symmetric: ClassVar[bool]

    def recipe(self, model: PreTrainedModel, schemes: dict[str, Any]) -> list[Any]:
        """The modifiers to run, given quantization schemes as ``config_groups`` takes them."""
        raise NotImplementedError

    def quantize(self, model: PreTrainedModel, windows: Sequence[Sequence[int]]) -> PreTrainedModel:
        """Calibrate layer after layer, each on what the quantized layers before it put out.

        Raises:
            QuantizerError: llm-compressor is missing, nothing to quantize, a layer cannot be
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
        """Load such a folder.

        Raises:
            QuantizerError: llm-compressor, which brings the format, is missing.
        """
        _require_library()
        return super().load(folder)

    def _schemes(self, layers: list[LinearLayer]) -> dict[str, Any]:
        """One scheme for each group size that the layers need, naming the layers."""
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
    """GPTQ (arXiv 2210.17323): column by column, later weights make up for earlier rounding.

    Symmetric grid; the Hessian is damped by 1% of its mean diagonal, and columns are taken in
    the order of decreasing activations.
    """

    symmetric = True

    def recipe(self, model: PreTrainedModel, schemes: dict[str, Any]) -> list[Any]:
        """GPTQ's own modifier."""
        from llmcompressor.modifiers.gptq import GPTQModifier

        return [GPTQModifier(config_groups=schemes)]


@register_quantizer("awq-int4")
@dataclasses.dataclass(frozen=True, kw_only=True)
class AWQ(Int4):
    """AWQ (arXiv 2306.00978): input features with large activations are scaled up to be rounded.

    The scales move into the normalization or projection before, found by a grid search; then
    weights are rounded to the nearest on an asymmetric grid. Layers with nothing before them to
    take the scales (the attention's output under grouped queries) are rounded unscaled.
    """

    symmetric = False

    def dequantize(self, module: nn.Module, parameter: str = "weight") -> Tensor | None:
        """Return None: features were scaled, the weights are not those of the model given."""
        return None

    def recipe(self, model: PreTrainedModel, schemes: dict[str, Any]) -> list[Any]:
        """AWQ's scaling, then rounding.

        Raises:
            QuantizerError: none of the layers is known to follow one that can be scaled.
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
        mappings = []  # by name, since the library fails on those whose layers are all skipped
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
            "llm-compressor is not installed; pip install 'lm-eval-muse[calibrated]' brings it"
        )
    # It would say on standard output what it does to every layer.
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

    processor: Any = object()  # asked for, though it would only serve to encode text
    batches = [{"input_ids": torch.tensor([window])} for window in windows]
    with ExitStack() as stack:
        stack.enter_context(redirect_stderr(io.StringIO()))  # progress bars by the hundred
        # Every traced model would stay in memory, in the namespace of its wrapped functions.
        stack.callback(_wrapped_fns_to_patch.update, dict(_wrapped_fns_to_patch))
        stack.callback(_wrapped_fns_to_patch.clear)
        # It reads the configuration from where the model came from, which need not exist.
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        model.config.save_pretrained(folder)
        stack.enter_context(patch_attr(model.config, "_name_or_path", folder))
        stack.enter_context(patch_attr(GPTQModifier, "_log_rtn_fallback_summary", _refuse_fallback))
        if not torch.accelerator.is_available():  # it pins memory without asking
            stack.enter_context(patch_attr(IntermediatesCache, "pin_memory", lambda *args: None))
        oneshot(
            model=model,
            recipe=recipe,
            dataset=DataLoader(batches, batch_size=None),  # type: ignore[arg-type]
            processor=processor,
            clear_sparse_session=True,  # which holds on to the model
        )
        del model.save_pretrained  # its own copies code from, and a configuration of, the source
        # There and back, the weights are those that a saved model will have.
        compressor = ModelCompressor.from_pretrained_model(model)
        compressor.compress_model(model)
        compressor.decompress_model(model)
    remove_dispatch(model)


def _refuse_fallback(modifier: Any) -> None:
    """Layers that GPTQ only rounds to the nearest must not pass as GPTQ's."""
    names = modifier._rtn_fallback_module_names
    if names:
        raise QuantizerError(
            f"GPTQ found no inverse Hessian for {len(names)} layers, '{names[0]}' among them; "
            "calibrate on more or other text"
        )
