"""Folders of quantized models: their content, their readers, and those that are refused."""

import json

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

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
