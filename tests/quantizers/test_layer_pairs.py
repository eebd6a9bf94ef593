"""Pairs of weight matrices: names, orientation, and models that do not fit."""

import copy

import pytest
import torch
from torch import nn

from quantizers import QuantizerError, get_quantizer
from quantizers.layer_pairs import layer_pairs

KINDS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def test_every_layer_but_the_head_has_a_pair(llama, updated_llama):
    pairs = layer_pairs(llama, updated_llama)
    assert [pair.name.rpartition(".")[2] for pair in pairs] == KINDS * 2
    assert pairs[-1].name == "model.layers.1.mlp.down_proj"
    old, new = pairs[-1].weights()
    assert torch.equal(old, llama.get_submodule(pairs[-1].name).weight)
    assert torch.equal(new, updated_llama.get_submodule(pairs[-1].name).weight)
    assert not (old.requires_grad or new.requires_grad)


def test_weights_of_conv1d_are_transposed(gpt2):
    """GPT-2 stores (inputs, outputs): 64 inputs and 3 × 64 outputs."""
    after = copy.deepcopy(gpt2)
    pair = layer_pairs(gpt2, after)[0]
    assert pair.name == "transformer.h.0.attn.c_attn"
    old, new = pair.weights()
    assert old.shape == new.shape == (192, 64)
    assert torch.equal(old.T, gpt2.transformer.h[0].attn.c_attn.weight)


@pytest.mark.parametrize("name", ["rtn-int4", "quanto-int8"])
def test_dequantized_as_outputs_by_inputs(model, updated, name):
    quantizer = get_quantizer(name)
    pairs = layer_pairs(model, updated)
    quantized = quantizer(copy.deepcopy(updated))
    for pair in pairs:
        weight, new = pair.dequantized(quantizer, quantized), pair.weights()[1]
        assert weight.shape == new.shape
        assert not torch.equal(weight, new)
        assert torch.dist(weight, new) < 0.2 * new.norm()


def test_quantized_models_that_do_not_fit(llama, gpt2):
    quantizer = get_quantizer("none")
    pair = layer_pairs(llama, copy.deepcopy(llama))[1]
    with pytest.raises(QuantizerError, match=r"GPT2LMHeadModel has no layer 'model.*k_proj'; give"):
        pair.dequantized(quantizer, gpt2)
    llama.set_submodule(pair.name, nn.Linear(32, 64, bias=False))
    with pytest.raises(QuantizerError, match=r"\(64, 32\) for '.*k_proj'; it must be \(32, 64\)"):
        pair.dequantized(quantizer, llama)


def test_models_that_do_not_fit(llama, gpt2):
    with pytest.raises(
        QuantizerError,
        match=r"q_proj' is float32 64 × 64 in the target but missing in the unlearned",
    ):
        layer_pairs(llama, gpt2)
    with pytest.raises(QuantizerError, match=r"64 × 64 in the target but bfloat16 64 × 64 in"):
        layer_pairs(llama, copy.deepcopy(llama).bfloat16())
    with pytest.raises(QuantizerError, match=r"q_proj' is offloaded; load the whole model"):
        layer_pairs(copy.deepcopy(llama).to("meta"), llama)
