"""Checkpoints of quantized layers: the same model after reloading, and folders that do not fit."""

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, GPTJConfig, GPTJForCausalLM

from quantizers import QuantizerError, get_quantizer
from quantizers.checkpoint import empty_model, load_checkpoint, save_checkpoint
from quantizers.saving import load_quantized, save_quantized


def test_others_are_refused_by_from_pretrained_rather_than_misread(llama, tmp_path):
    quantizer = get_quantizer("quanto-int4")
    save_quantized(quantizer(llama), tmp_path, quantizer)
    with pytest.raises(OSError, match=r"no file named model.safetensors"):
        AutoModelForCausalLM.from_pretrained(tmp_path)


@pytest.mark.parametrize("name", ["quanto-int8", "quanto-int2"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_reloaded_in_the_same_dtype(model, logits, name, dtype, tmp_path):
    model.save_pretrained(tmp_path / "original")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "original", dtype=dtype)
    quantizer = get_quantizer(name)
    quantized = quantizer(loaded)
    save_quantized(quantized, tmp_path / "quantized", quantizer)
    reloaded = load_quantized(tmp_path / "quantized")
    assert reloaded.dtype == dtype
    assert torch.equal(logits(reloaded), logits(quantized))
    assert reloaded.generation_config.to_dict() == quantized.generation_config.to_dict()
    tied = model.config.tie_word_embeddings
    head, embeddings = reloaded.get_output_embeddings(), reloaded.get_input_embeddings()
    assert (head.weight is embeddings.weight) == tied


def test_positions_that_a_model_computes_are_those_that_were_saved(logits, tmp_path):
    """GPT-J's sines differ if it is built in bfloat16."""
    torch.manual_seed(0)
    config = GPTJConfig(
        n_embd=64, n_layer=1, n_head=4, rotary_dim=8, n_positions=128, vocab_size=300
    )
    GPTJForCausalLM(config).to(torch.bfloat16).save_pretrained(tmp_path / "original")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "original")
    sines = model.transformer.h[0].attn.embed_positions
    quantizer = get_quantizer("quanto-int4")
    quantized = quantizer(model)
    save_quantized(quantized, tmp_path / "quantized", quantizer)
    reloaded = load_quantized(tmp_path / "quantized")
    assert torch.equal(reloaded.transformer.h[0].attn.embed_positions, sines)
    assert torch.equal(logits(reloaded), logits(quantized))


def test_folders_that_do_not_fit(llama, tmp_path):
    """Folders without configuration or weights, and models with other layers."""

    def drop_norm(model):
        del model.model.norm

    def add_layer(model):
        model.more = torch.nn.Linear(2, 2)

    def unreachable(model):
        raise AssertionError

    with pytest.raises(QuantizerError, match=r"is no model folder: it has no config.json$"):
        empty_model(tmp_path)
    save_checkpoint(llama, tmp_path)
    with pytest.raises(QuantizerError, match=r"Llama.*: 0 tensors are missing, 1 unexpected$"):
        load_checkpoint(tmp_path, drop_norm)
    with pytest.raises(QuantizerError, match=r"Llama.*: 2 tensors are missing, 0 unexpected$"):
        load_checkpoint(tmp_path, add_layer)
    (tmp_path / "quantized.safetensors").unlink()
    with pytest.raises(QuantizerError, match=r"no quantized.safetensors; quantize the model again"):
        load_checkpoint(tmp_path, unreachable)


def test_an_empty_model_has_no_values_and_a_loaded_one_all(model, logits, tmp_path):
    save_checkpoint(model, tmp_path)
    empty = empty_model(tmp_path)
    assert type(empty) is type(model)
    assert all(parameter.is_meta for parameter in empty.parameters())
    loaded = load_checkpoint(tmp_path, lambda empty: None)
    assert not loaded.training
    assert torch.equal(logits(loaded), logits(model))
    tied = model.config.tie_word_embeddings
    assert ("lm_head.weight" in load_file(tmp_path / "quantized.safetensors")) is not tied
