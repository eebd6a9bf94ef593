"""Multimodal checkpoints: loaded whole, only their language model quantized."""

import copy

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import (
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    GitConfig,
    GitForCausalLM,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
)

from quantizers import QuantizerError, get_quantizer
from quantizers.loading import load_language_model
from quantizers.saving import load_quantized, save_quantized

TEXT = dict(
    hidden_size=64,
    intermediate_size=96,
    num_hidden_layers=1,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=16,
    vocab_size=300,
    bos_token_id=1,
    eos_token_id=2,
    pad_token_id=0,
)


VISION = dict(
    hidden_size=64,
    intermediate_size=96,
    num_hidden_layers=1,
    num_attention_heads=4,
    image_size=16,
    patch_size=8,
)


def gemma3():
    return Gemma3ForConditionalGeneration(
        Gemma3Config(
            text_config=TEXT,
            vision_config=VISION,
            mm_tokens_per_image=4,
            image_token_index=290,
            boi_token_index=291,
            eoi_token_index=292,
        )
    )


def llava():
    vision = VISION | dict(model_type="clip_vision_model", projection_dim=64)
    text = TEXT | dict(model_type="llama")
    return LlavaForConditionalGeneration(
        LlavaConfig(text_config=text, vision_config=vision, image_token_index=290)
    )


def qwen2_5_vl():
    rope = dict(rope_theta=1e4, rope_type="default", mrope_section=[4, 2, 2])
    vision = dict(hidden_size=64, out_hidden_size=64, intermediate_size=96, depth=1, num_heads=4)
    return Qwen2_5_VLForConditionalGeneration(
        Qwen2_5_VLConfig(
            text_config=TEXT | dict(rope_parameters=rope),
            vision_config=vision,
            image_token_id=290,
            video_token_id=291,
        )
    )


@pytest.fixture(params=[gemma3, llava, qwen2_5_vl], ids=lambda build: build.__name__)
def checkpoint(request, tmp_path):
    """A model loaded from a folder, and the tensors of that folder."""
    torch.manual_seed(0)
    request.param().save_pretrained(tmp_path / "original")
    model = load_language_model(tmp_path / "original")
    return model, load_file(tmp_path / "original" / "model.safetensors")


@pytest.mark.parametrize("name", ["rtn-int4", "quanto-int4", "bnb-nf4"])
def test_only_the_language_model_is_quantized(checkpoint, logits, name, tmp_path):
    if name.startswith("bnb"):
        pytest.importorskip("bitsandbytes")
    model, _ = checkpoint
    before = copy.deepcopy(model)
    quantizer = get_quantizer(name)
    quantized = quantizer(model)
    save_quantized(quantized, tmp_path / "quantized", quantizer)
    reloaded = load_quantized(tmp_path / "quantized")
    assert type(reloaded) is type(before)
    assert torch.equal(logits(reloaded), logits(quantized))
    assert not torch.equal(logits(quantized), logits(before))
    for module_name, module in before.named_modules():
        if not isinstance(module, nn.Linear):
            continue
        for after in (quantized, reloaded):
            new = after.get_submodule(module_name)
            if "language_model" in module_name:
                weight = quantizer.dequantize(new)
                assert not torch.equal(weight, module.weight), module_name
            else:
                assert type(new) is type(module)
                assert torch.equal(new.weight, module.weight), module_name
    others = {
        key: value
        for key, value in before.state_dict().items()
        if "language_model" not in key and "lm_head" not in key
    }
    assert len(others) > 10
    for key, value in others.items():
        assert torch.equal(quantized.state_dict()[key], value)
        assert torch.equal(reloaded.state_dict()[key], value)


def test_a_saved_folder_has_the_tensors_of_the_original(checkpoint, tmp_path):
    model, original = checkpoint
    quantizer = get_quantizer("rtn-int4")
    save_quantized(quantizer(model), tmp_path / "quantized", quantizer)
    saved = load_file(tmp_path / "quantized" / "model.safetensors")
    assert saved.keys() == original.keys()
    changed = {key for key in saved if not torch.equal(saved[key], original[key])}
    assert changed == {
        key
        for key in saved
        if key.endswith("_proj.weight") and (".mlp." in key or ".self_attn." in key)
        if "vis" not in key
    }


def test_a_checkpoint_without_architectures_is_loaded_whole(tmp_path):
    torch.manual_seed(0)
    model = gemma3()
    model.save_pretrained(tmp_path)
    text = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(text.replace('"architectures"', '"former"'))
    assert type(load_language_model(tmp_path)) is Gemma3ForConditionalGeneration


def test_a_tower_inside_the_decoder_is_no_language(logits):
    """GIT's decoder holds its image encoder, and its configuration is that of the text."""
    torch.manual_seed(0)
    config = GitConfig(**TEXT, vision_config=VISION, max_position_embeddings=64)
    model = GitForCausalLM(config).eval()
    before = copy.deepcopy(model.state_dict())
    for name in ("rtn-int4", "quanto-int4"):
        quantized = get_quantizer(name)(copy.deepcopy(model))
        for key, value in before.items():
            if "image_encoder" in key or "visual_projection" in key:
                assert torch.equal(quantized.state_dict()[key], value)
        assert not torch.equal(logits(quantized), logits(model))


def test_a_model_inside_that_reads_text_is_language(llama, gpt2):
    """BLT consists of several models, each with its own configuration."""
    llama.model.patcher = gpt2
    before = copy.deepcopy(gpt2.state_dict())
    after = get_quantizer("rtn-int4")(llama).model.patcher.state_dict()
    name = "transformer.h.0.mlp.c_fc.weight"
    assert not torch.equal(before[name], after[name])


def test_a_model_that_does_not_name_its_language_model(llama):
    class Omni(type(llama)):
        def get_decoder(self):
            return self

    llama.__class__ = Omni
    llama.config.text_config = LlamaConfig()
    with pytest.raises(QuantizerError, match=r"^Omni does not say which of its parts is the lang"):
        get_quantizer("rtn-int4")(llama)
