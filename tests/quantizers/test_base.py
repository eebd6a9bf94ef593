"""`Quantizer.dequantize` against the libraries' own functions and against the layers' outputs."""

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from quantizers import Quantizer, QuantizerError, get_quantizer

SQUARE = {  # 64 × 64: an error of orientation would not show in the shape
    "LlamaForCausalLM": "model.layers.0.self_attn.o_proj",
    "GPT2LMHeadModel": "transformer.h.0.attn.c_proj",
}


def outputs_first(module, weight):
    return weight.T if isinstance(module, Conv1D) else weight


class ThirdParty(nn.Module):
    """Weight-only layer as other libraries have them: int8 indices, half-precision scales."""

    def __init__(self, linear):
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        scales = linear.weight.abs().amax(dim=1, keepdim=True) / 127
        self.register_buffer("indices", (linear.weight / scales).round().to(torch.int8))
        self.register_buffer("scales", scales.half())
        self.register_buffer("bias", None if linear.bias is None else linear.bias.half())

    def forward(self, x):
        assert x.dtype == torch.float16
        return nn.functional.linear(x, self.indices * self.scales, self.bias)


@pytest.mark.parametrize("bias", [False, True])
def test_the_identity_matrix_gives_the_weight_of_an_unknown_layer(bias):
    """Exact with a bias too: 1000 in half precision has a spacing of 0.5, the weights are < 1."""
    torch.manual_seed(0)
    linear = nn.Linear(6, 4, bias=bias).requires_grad_(False)
    if bias:
        linear.bias.fill_(1000)
    layer = ThirdParty(linear)
    weight = Quantizer().dequantize(layer)
    assert weight.dtype == torch.float16
    assert torch.equal(weight, layer.indices * layer.scales)
    if bias:
        assert (layer.bias == 1000).all()


def test_a_plain_weight_is_taken_as_it_is():
    for layer in (nn.Linear(6, 4), Conv1D(4, 6)):
        assert torch.equal(Quantizer().dequantize(layer), layer.weight)
        assert not Quantizer().dequantize(layer).requires_grad


def test_a_layer_of_unknown_size_is_refused():
    with pytest.raises(QuantizerError, match="Identity has neither a floating weight nor in_feat"):
        Quantizer().dequantize(nn.Identity())


def test_awq_weights_cannot_be_compared():
    assert get_quantizer("awq-int4").dequantize(nn.Linear(6, 4)) is None


@pytest.mark.parametrize("name", ["quanto-int8", "quanto-int4", "quanto-int2", "quanto-float8"])
def test_quanto(model, name):
    layer = SQUARE[type(model).__name__]
    original = model.get_submodule(layer)
    weight = outputs_first(original, original.weight.detach().clone())
    quantizer = get_quantizer(name)
    module = quantizer(model).get_submodule(layer)
    result = quantizer.dequantize(module)
    assert torch.equal(result, module.weight.dequantize())
    assert (result - weight).norm() < (result.T - weight).norm()


@pytest.mark.parametrize("name", ["bnb-fp4", "bnb-nf4", "bnb-int8"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_bitsandbytes(model, name, dtype, tokens):
    """int8: indices · scale of the row / 127, before and after the first forward pass."""
    bnb = pytest.importorskip("bitsandbytes")
    layer = SQUARE[type(model).__name__]
    quantizer = get_quantizer(name)
    quantized = quantizer(model.to(dtype))
    module = quantized.get_submodule(layer)
    before = quantizer.dequantize(module)
    if name == "bnb-int8":
        expected = module.weight.CB.double() * module.weight.SCB.double()[:, None] / 127
        torch.testing.assert_close(before.double(), expected)
    else:
        expected = bnb.functional.dequantize_4bit(module.weight.data, module.weight.quant_state)
        assert torch.equal(before, expected)
        assert before.dtype == dtype
    quantized(tokens)
    assert torch.equal(quantizer.dequantize(module), before)
