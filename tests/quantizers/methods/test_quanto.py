"""Quanto: what its formulas give, frozen, without a compiler."""

import copy

import pytest
import torch
from optimum.quanto import QLinear, qint2, qint4
from optimum.quanto.tensor.packed import pack_weights

from quantizers import get_quantizer

NAMES = ["quanto-int8", "quanto-int4", "quanto-int2", "quanto-float8"]


@pytest.fixture(autouse=True)
def no_compiler(monkeypatch):
    def refuse(**settings):
        raise AssertionError(f"compiles {settings['name']}")

    monkeypatch.setattr("optimum.quanto.library.extensions.extension.load", refuse)


def test_int8_is_symmetric_per_output(llama):
    weight = llama.model.layers[0].mlp.up_proj.weight.detach().double()
    quantized = get_quantizer("quanto-int8")(llama).model.layers[0].mlp.up_proj
    scale = weight.abs().amax(dim=1, keepdim=True) / 127
    expected = (weight / scale).round() * scale
    torch.testing.assert_close(quantized.weight.dequantize().double(), expected)


@pytest.mark.parametrize("bits", [2, 4])
def test_int4_and_int2_are_affine_in_groups(llama, bits):
    """96 inputs are one group; scale (max - min) / (2^bits - 1), index 0 at the minimum."""
    weight = llama.model.layers[0].mlp.down_proj.weight.detach().double()
    quantized = get_quantizer(f"quanto-int{bits}")(llama).model.layers[0].mlp.down_proj
    low = weight.amin(dim=1, keepdim=True)
    scale = (weight.amax(dim=1, keepdim=True) - low) / (2**bits - 1)
    expected = ((weight - low) / scale).round() * scale + low
    difference = (quantized.weight.dequantize().double() - expected).abs()
    assert (difference <= 1e-5).double().mean() > 0.999  # a quotient may lie at a tie
    assert (difference <= scale * 1.001).all()


@pytest.mark.parametrize("name", NAMES)
def test_layers_are_frozen_and_the_head_is_left(model, logits, name):
    before = logits(model)
    head = model.get_output_embeddings().weight
    quantized = get_quantizer(name)(model)
    layers = [module for module in quantized.modules() if isinstance(module, QLinear)]
    assert len(layers) in (14, 8)
    assert all(layer.frozen for layer in layers)
    assert quantized.get_output_embeddings().weight is head
    assert not torch.equal(logits(quantized), before)


def test_the_head_is_quantized_when_asked_for(llama):
    assert isinstance(get_quantizer("quanto-int8", quantize_head=True)(llama).lm_head, QLinear)


@pytest.mark.parametrize("name", NAMES)
def test_rows_of_zeros_stay_zeros(llama, logits, name):
    with torch.no_grad():
        llama.model.layers[0].mlp.up_proj.weight[3] = 0
    quantized = get_quantizer(name)(llama)
    assert quantized.model.layers[0].mlp.up_proj.weight.dequantize()[3].count_nonzero() == 0
    assert logits(quantized).isfinite().all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(llama, logits, name, dtype):
    assert logits(get_quantizer(name)(llama.to(dtype))).isfinite().all()


@pytest.mark.parametrize("kind", [qint2, qint4])
def test_unpacking_undoes_quanto_packing(llama, kind):
    get_quantizer("quanto-int4")(copy.deepcopy(llama))
    values = torch.arange(10 * 7).view(10, 7).remainder(2**kind.bits).to(torch.uint8)
    unpacked = torch.ops.quanto.unpack(pack_weights(values, kind.bits), kind.bits)
    assert torch.equal(unpacked[:10], values)
