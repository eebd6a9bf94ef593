"""Complete loading: checkpoints that lack tensors or hold others, and their class."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMultimodalLM,
    Emu3Config,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    PreTrainedModel,
    Qwen2_5_VLConfig,
    Qwen3_5Config,
    T5Gemma2Config,
)

from quantizers import QuantizerError, get_quantizer
from quantizers.errors import ModelError
from quantizers.loading import auto_class, load_complete, one_line
from quantizers.saving import load_quantized, save_quantized

from .small_checkpoint import change_tensors, small_llama

DOWN = "model.layers.1.mlp.down_proj.weight"
IDS = torch.arange(3, 40)[None]


def load(folder: Path) -> PreTrainedModel:
    return load_complete(AutoModelForCausalLM, folder)


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(IDS).logits


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda t: t.pop(DOWN), f"1 tensor missing: {DOWN}."),
        (lambda t: t.update({"more.weight": torch.ones(2)}), "1 tensor unexpected: more.weight."),
        (
            lambda t: t.update({"model.norm.weight": torch.ones(7)}),
            "1 tensor of another shape: model.norm.weight (checkpoint (7,), model (32,)).",
        ),
        (
            lambda t: [
                t.pop(name) for name in sorted(t) if "layers.0.mlp" in name or "q_pr" in name
            ],
            "5 tensors missing: model.layers.0.mlp.down_proj.weight, "
            "model.layers.0.mlp.gate_proj.weight, model.layers.0.mlp.up_proj.weight, ….",
        ),
        (lambda t: t.pop("lm_head.weight"), "1 tensor missing: lm_head.weight."),
    ],
)
def test_incomplete_checkpoint(
    tmp_path: Path, change: Callable[[dict[str, Any]], Any], named: str
) -> None:
    """Layer 0 has three tensors in its MLP, and two layers have a q_proj: five in all."""
    small_llama().save_pretrained(tmp_path)
    load(tmp_path)
    change_tensors(tmp_path, change)
    with pytest.raises(ModelError) as caught:
        load(tmp_path)
    message = str(caught.value)
    assert message.startswith("the checkpoint does not fit LlamaForCausalLM: ")
    assert named in message
    assert "\n" not in message


@pytest.mark.parametrize("bare", [False, True])
def test_tied_head_is_not_missing(tmp_path: Path, bare: bool) -> None:
    """Saved completely, and as the base model without the prefix ``model.``."""
    model = small_llama(tied=True)
    (model.model if bare else model).save_pretrained(tmp_path)
    names = load_file(tmp_path / "model.safetensors").keys()
    assert "lm_head.weight" not in names
    assert any(name.startswith("model.") for name in names) is not bare
    assert logits(load(tmp_path)).equal(logits(model))


def test_bare_base_model_without_its_head(tmp_path: Path) -> None:
    small_llama().model.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"1 tensor missing: lm_head\.weight"):
        load(tmp_path)


def test_masks_and_positions_of_old_checkpoints(tmp_path: Path) -> None:
    llama, gpt2 = tmp_path / "llama", tmp_path / "gpt2"
    model = small_llama()
    model.save_pretrained(llama)
    inv_freq = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}
    change_tensors(llama, lambda t: t.update(inv_freq))
    assert logits(load(llama)).equal(logits(model))
    GPT2LMHeadModel(GPT2Config(vocab_size=64, n_embd=32, n_layer=1, n_head=2)).save_pretrained(gpt2)
    masks = {"attn.bias": torch.ones(1, 1, 8, 8), "attn.masked_bias": torch.ones(1)}
    change_tensors(gpt2, lambda t: t.update({f"transformer.h.0.{k}": v for k, v in masks.items()}))
    load(gpt2)


def test_adapter_in_a_model_folder(tmp_path: Path) -> None:
    """The loader reports on the adapter alone, so that the model may lack anything."""
    model = small_llama()
    get_peft_model(copy.deepcopy(model), LoraConfig(target_modules=["q_proj"])).save_pretrained(
        tmp_path
    )
    model.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"it has adapter_config\.json: merge the adapter"):
        load(tmp_path)


@pytest.mark.parametrize("tensor", [DOWN, "model.norm.weight"])
@pytest.mark.parametrize("name", ["none", "bf16", "rtn-int4", "bnb-nf4", "quanto-int8"])
def test_incomplete_quantized_folder(tmp_path: Path, name: str, tensor: str) -> None:
    """The error is from transformers' report or from the loader of the format.

    A quanto weight is removed with its scales, and bitsandbytes cannot build a missing weight.
    """
    quantizer = get_quantizer(name)
    quantized = quantizer(small_llama())
    save_quantized(quantized, tmp_path, quantizer)
    assert logits(load_quantized(tmp_path)).equal(logits(quantized))
    file = next(tmp_path.glob("*.safetensors")).name
    stem = tensor.removesuffix(".weight")
    change_tensors(tmp_path, lambda t: [t.pop(k) for k in list(t) if k.startswith(stem)], file)
    with pytest.raises((ModelError, QuantizerError), match="missing"):
        load_quantized(tmp_path)


def test_one_line() -> None:
    error = ValueError("Not from one of: \n(1) this, \n(2) that.\n\nRead the manual.")
    assert one_line(error) == "Not from one of: (1) this, (2) that."
    assert one_line(KeyError()) == "KeyError"
    assert one_line(ValueError("x" * 501)) == "x" * 499 + "…"
    assert one_line(ValueError("x" * 500)) == "x" * 500


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (LlamaConfig(), AutoModelForCausalLM),
        (Qwen2_5_VLConfig(), AutoModelForMultimodalLM),
        (Qwen3_5Config(), AutoModelForMultimodalLM),
        (
            Qwen3_5Config(architectures=["Qwen3_5ForConditionalGeneration"]),
            AutoModelForMultimodalLM,
        ),
        (Qwen3_5Config(architectures=["Qwen3_5ForCausalLM"]), AutoModelForCausalLM),
        (Qwen3_5Config().text_config, AutoModelForCausalLM),
        (Emu3Config(architectures=["Emu3ForCausalLM"]), AutoModelForCausalLM),
        (T5Gemma2Config(), AutoModelForCausalLM),  # which refuses encoder-decoders
    ],
)
def test_class_of_a_configuration(config, expected):
    assert auto_class(config) is expected
