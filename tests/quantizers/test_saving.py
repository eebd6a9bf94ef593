"""Folders of quantized models: their content, their readers, and those that are refused."""

import json

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, GPTJConfig, GPTJForCausalLM

from quantizers import QuantizerError, get_quantizer
from quantizers.methods.rtn import RoundToNearest
from quantizers.saving import load_quantized, read_quantizer, save_quantized


@pytest.mark.parametrize("name", ["none", "bf16", "rtn-int4"])
def test_simulated_models_are_ordinary_folders(llama, logits, name, tmp_path):
    quantizer = get_quantizer(name)
    quantized = quantizer(llama)
    save_quantized(quantized, tmp_path, quantizer)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert loaded.dtype == quantized.dtype
    assert torch.equal(logits(loaded), logits(quantized))


def test_a_folder_of_another_dtype_loads_as_the_cast(llama, logits, tmp_path):
    llama.save_pretrained(tmp_path)
    (tmp_path / "quantizer.json").write_text('{"quantizer": "bf16", "parameters": {}}')
    loaded = load_quantized(tmp_path)
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.bfloat16}
    assert torch.equal(logits(loaded), logits(get_quantizer("bf16")(llama)))


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


def test_the_folder_is_small_and_names_its_quantizer(llama, tmp_path):
    quantizer = get_quantizer("quanto-int8", skip=["*.o_proj"])
    save_quantized(quantizer(llama), tmp_path, quantizer)
    record = json.loads((tmp_path / "quantizer.json").read_text())
    assert record["quantizer"] == "quanto-int8"
    assert record["parameters"]["skip"] == ["*.o_proj"]
    assert read_quantizer(tmp_path) == quantizer
    tensors = load_file(tmp_path / "quantized.safetensors")
    assert tensors["model.layers.0.mlp.up_proj.weight._data"].dtype == torch.int8
    assert tensors["model.layers.0.self_attn.o_proj.weight"].dtype == torch.float32


def test_an_unregistered_quantizer_cannot_be_saved(llama, tmp_path):
    quantizer = RoundToNearest(bits=5)
    with pytest.raises(QuantizerError, match="not registered"):
        save_quantized(quantizer(llama), tmp_path / "out", quantizer)
    assert not (tmp_path / "out").exists()


def test_folders_that_cannot_be_read(llama, tmp_path):
    with pytest.raises(QuantizerError, match=r"has no quantizer.json; it is not a folder"):
        load_quantized(tmp_path)
    quantizer = get_quantizer("quanto-int4")
    save_quantized(quantizer(llama), tmp_path, quantizer)
    record = tmp_path / "quantizer.json"
    text = record.read_text()
    record.write_text(text.replace("quanto-int4", "quanto-int5"))
    with pytest.raises(QuantizerError, match="unknown quantizer 'quanto-int5'"):
        load_quantized(tmp_path)
    record.write_text(text.replace('"skip": []', '"skip": ["*.o_proj"]'))
    with pytest.raises(
        QuantizerError, match="does not fit LlamaForCausalLM: 2 tensors are missing"
    ):
        load_quantized(tmp_path)
    record.write_text("{")
    with pytest.raises(QuantizerError, match=r"quantizer.json cannot be read"):
        load_quantized(tmp_path)
    record.write_text(text)
    (tmp_path / "config.json").unlink()
    with pytest.raises(QuantizerError, match=r"is no model folder: it has no config.json"):
        load_quantized(tmp_path)
    (tmp_path / "quantized.safetensors").unlink()
    with pytest.raises(QuantizerError, match=r"holds no quantized.safetensors"):
        load_quantized(tmp_path)
