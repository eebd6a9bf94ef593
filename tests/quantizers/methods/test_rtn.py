"""Simulated round-to-nearest on whole models: which layers, tied weights, refusals, memory."""

import copy

import peft
import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.pytorch_utils import Conv1D

from quantizers import QuantizerError, get_quantizer
from quantizers.grid import Grid


def projections(model):
    """Names of the layers inside the blocks, by type, independently of the package."""
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and name != "lm_head"
    ]


def tied_llama():
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=1,
        num_attention_heads=2,
        vocab_size=50,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config)


def test_every_projection_is_rounded_and_nothing_else(model):
    before = copy.deepcopy(model).state_dict()
    after = get_quantizer("rtn-int4")(model).state_dict()
    layers = projections(model)
    assert len(layers) in (14, 8)  # two Llama blocks of 7, two GPT-2 blocks of 4
    for name, old in before.items():
        layer = name.removesuffix(".weight")
        if layer not in layers:
            assert torch.equal(after[name], old), name
            continue
        expected = old.clone()
        if isinstance(model.get_submodule(layer), Conv1D):  # groups run along input features
            expected = expected.T.contiguous()
        Grid(bits=4, group_size=128).round_(expected)
        if isinstance(model.get_submodule(layer), Conv1D):
            expected = expected.T
        assert torch.equal(after[name], expected), name
        assert not torch.equal(after[name], old), name


def test_it_is_the_same_model_object(llama):
    assert get_quantizer("rtn-int8")(llama) is llama


@pytest.mark.parametrize("name", ["rtn-int4", "quanto-int8"])
def test_tied_weights_are_untouched(name):
    model = tied_llama()
    embeddings = model.get_input_embeddings().weight.clone()
    model = get_quantizer(name)(model)
    assert torch.equal(model.get_input_embeddings().weight, embeddings)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


@pytest.mark.parametrize("name", ["rtn-int4", "quanto-int8"])
def test_a_tied_head_cannot_be_asked_for(name):
    with pytest.raises(QuantizerError, match="'lm_head' shares its weight with the embeddings"):
        get_quantizer(name, quantize_head=True)(tied_llama())


def test_the_head_is_rounded_when_asked_for(llama):
    head = llama.lm_head.weight.detach().clone()
    get_quantizer("rtn-int4", quantize_head=True)(llama)
    Grid(bits=4).round_(head)
    assert torch.equal(llama.lm_head.weight, head)


def test_skipped_layers_stay(llama):
    before = copy.deepcopy(llama).state_dict()
    after = get_quantizer("rtn-int4", skip=["*.down_proj", "model.layers.0.*"])(llama).state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    kinds = ("mlp.gate_proj", "mlp.up_proj", *(f"self_attn.{k}_proj" for k in "qkvo"))
    assert changed == {f"model.layers.1.{kind}.weight" for kind in kinds}


@pytest.mark.parametrize("name", ["rtn-int4", "quanto-int8"])
def test_nothing_to_quantize_is_an_error(llama, name):
    with pytest.raises(QuantizerError, match="nothing to quantize in LlamaForCausalLM"):
        get_quantizer(name, skip=["*"])(llama)


def test_a_pattern_that_matches_nothing_is_an_error(llama):
    with pytest.raises(QuantizerError, match=r"'\*.dense' matches no linear layer"):
        get_quantizer("rtn-int4", skip=["*.dense"])(llama)


@pytest.mark.parametrize("name", ["rtn-int4", "quanto-int8"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite_are_refused(llama, name, value):
    with torch.no_grad():
        llama.model.layers[1].mlp.up_proj.weight[3, 5] = value
    with pytest.raises(QuantizerError, match=r"'model.layers.1.mlp.up_proj' holds NaN or infinite"):
        get_quantizer(name)(llama)


def test_an_adapter_must_be_merged_first(llama):
    adapted = peft.get_peft_model(llama, peft.LoraConfig(target_modules="all-linear"))
    with pytest.raises(QuantizerError, match="carries an adapter; merge it before"):
        get_quantizer("rtn-int4")(adapted)
    get_quantizer("rtn-int4")(adapted.merge_and_unload())


def test_a_quantized_model_is_refused(llama):
    quantized = get_quantizer("quanto-int8")(llama)
    with pytest.raises(QuantizerError, match=r"'model.layers.0.self_attn.q_proj' is quantized alr"):
        get_quantizer("rtn-int4")(quantized)


def test_an_offloaded_model_is_refused(llama):
    with pytest.raises(QuantizerError, match=r"q_proj' is offloaded; load the whole model"):
        get_quantizer("rtn-int4")(llama.to("meta"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_extra_memory_stays_below_the_largest_layer(llama, dtype, peak_memory, monkeypatch):
    """Blocks are as small, compared with these layers, as a million weights are to real ones."""
    monkeypatch.setattr("quantizers.grid.BLOCK_ELEMENTS", 512)
    llama.to(dtype)
    with peak_memory:
        get_quantizer("rtn-int4")(llama)
    assert 0 < peak_memory.peak < 96 * 64 * dtype.itemsize


def test_the_model_keeps_its_dtype(llama):
    model = get_quantizer("rtn-int3", group_size="row")(llama.to(torch.bfloat16))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
