"""Layers that a library cannot replace by its own are refused before any work."""

import copy

import pytest
import torch
from torch import nn
from transformers import FalconConfig, FalconForCausalLM, MambaConfig, MambaForCausalLM

from quantizers import QuantizerError, get_quantizer
from quantizers.layers import linear_layers
from quantizers.methods.rtn import RoundToNearest
from quantizers.saving import load_quantized, save_quantized

REPLACING = ["bnb-nf4", "bnb-int8", "quanto-int8"]
IN_PLACE = "; use rtn-int4 or rtn-int8, which round weights in place, or leave it out "
UP = "model.layers.0.mlp.up_proj"


@pytest.fixture(params=REPLACING)
def name(request):
    if request.param.startswith("bnb"):
        pytest.importorskip("bitsandbytes")
    return request.param


class Scaled(nn.Linear):
    """Computes 1.01 (W x + b)."""

    def forward(self, x):
        return 1.01 * super().forward(x)


class ByMatmul(nn.Linear):
    """Computes W x + b, in two steps."""

    def forward(self, x):
        x = x @ self.weight.T
        return x if self.bias is None else x + self.bias


def with_layer(model, kind):
    layer = model.get_submodule(UP)
    other = kind(layer.in_features, layer.out_features, bias=False)
    other.weight = layer.weight
    model.set_submodule(UP, other)
    return model


def test_a_subclass_that_computes_something_else(llama, name):
    with_layer(llama, Scaled)
    before = copy.deepcopy(llama.state_dict())
    with pytest.raises(QuantizerError) as caught:
        get_quantizer(name)(llama)
    assert str(caught.value).endswith(
        f" cannot quantize '{UP}': it is a Scaled, no plain nn.Linear{IN_PLACE}"
        "(skip=['model.layers.*.mlp.up_proj'])"
    )
    assert all(torch.equal(old, llama.state_dict()[key]) for key, old in before.items())
    quantized = get_quantizer(name, skip=["*.up_proj"])(llama)
    assert type(quantized.get_submodule(UP)) is Scaled


def test_rounding_in_place_keeps_such_a_subclass(llama):
    expected = llama.get_submodule(UP).weight.detach().clone()
    layer = RoundToNearest(bits=4)(with_layer(llama, Scaled)).get_submodule(UP)
    assert type(layer) is Scaled
    RoundToNearest(bits=4).grid.round_(expected)
    x = torch.ones(1, 64)
    assert torch.equal(layer(x), 1.01 * nn.functional.linear(x, expected))


@pytest.mark.parametrize("bias", [False, True])
def test_a_subclass_that_computes_the_same_is_replaced(logits, bias):
    torch.manual_seed(0)
    config = FalconConfig(
        hidden_size=64, num_hidden_layers=1, num_attention_heads=4, vocab_size=300, bias=bias
    )
    model = FalconForCausalLM(config).eval()
    for parameter in model.parameters():
        parameter.data += 0.01 * torch.randn_like(parameter)
    quantizer = get_quantizer("quanto-int8")
    quantized = quantizer(copy.deepcopy(model))
    for layer in linear_layers(model):
        weight = quantizer.dequantize(quantized.get_submodule(layer.name))
        assert not torch.equal(weight, layer.weight)
        layer.weight.data = weight
    torch.testing.assert_close(logits(quantized), logits(model))


@pytest.mark.parametrize("name", ["bnb-nf4", "bnb-int8"])
def test_bitsandbytes_takes_no_subclass_at_all(llama, name):
    """Transformers would not replace it either when it loads the folder."""
    pytest.importorskip("bitsandbytes")
    with pytest.raises(QuantizerError, match=r"'model.layers.0.mlp.up_proj': it is a ByMatmul"):
        get_quantizer(name)(with_layer(llama, ByMatmul))


@pytest.fixture
def mamba():
    """A model that reads the weight of ``dt_proj`` by itself."""
    torch.manual_seed(0)
    config = MambaConfig(hidden_size=64, state_size=4, num_hidden_layers=2, vocab_size=300)
    return MambaForCausalLM(config).eval()


@pytest.mark.parametrize("name", ["bnb-nf4", "bnb-int8"])
def test_a_weight_that_the_model_reads_by_itself(mamba, name, logits):
    pytest.importorskip("bitsandbytes")
    with pytest.raises(QuantizerError) as caught:
        get_quantizer(name)(mamba)
    assert str(caught.value) == (
        "bitsandbytes cannot quantize 'backbone.layers.0.mixer.dt_proj': it has its weight read "
        f"by MambaForCausalLM itself{IN_PLACE}(skip=['backbone.layers.*.mixer.dt_proj'])"
    )
    quantizer = get_quantizer(name, skip=["backbone.layers.*.mixer.dt_proj"])
    assert logits(quantizer(mamba)).isfinite().all()


@pytest.mark.parametrize("name", ["quanto-int8", "quanto-int4"])
def test_a_library_whose_weight_can_be_read(mamba, name, logits, tmp_path):
    quantizer = get_quantizer(name)
    quantized = quantizer(copy.deepcopy(mamba))
    for layer in linear_layers(mamba):
        layer.weight.data = quantizer.dequantize(quantized.get_submodule(layer.name))
    torch.testing.assert_close(logits(quantized), logits(mamba))
    save_quantized(quantized, tmp_path, quantizer)
    assert torch.equal(logits(load_quantized(tmp_path)), logits(quantized))


def test_a_weight_that_the_model_changes_by_itself(llama, name):
    class Rescaling(type(llama)):
        def forward(self, *args, **kwargs):
            self.get_submodule(UP).weight.div_(1)
            return super().forward(*args, **kwargs)

    llama.__class__ = Rescaling
    with pytest.raises(QuantizerError, match=r"up_proj': it has its weight (chang|r)e.* by Resc"):
        get_quantizer(name)(llama)


def test_the_dtype_of_a_weight_counts_as_read(llama):
    """Inputs cast to the uint8 in which bitsandbytes keeps its weights would be lost."""
    pytest.importorskip("bitsandbytes")

    class Casting(type(llama)):
        def forward(self, *args, **kwargs):
            torch.zeros(1).to(self.get_submodule(UP).weight.dtype)
            return super().forward(*args, **kwargs)

    llama.__class__ = Casting
    with pytest.raises(QuantizerError, match=r"up_proj': it has its weight read by Casting "):
        get_quantizer("bnb-nf4")(llama)


@pytest.mark.parametrize("by_module", [False, True])
def test_a_weight_of_two_layers(llama, name, by_module):
    """Zamba shares the weights of its layers, other models the layers themselves."""
    first, second = (layer.mlp for layer in llama.model.layers)
    if by_module:
        second.up_proj = first.up_proj
    else:
        second.up_proj.weight = first.up_proj.weight
    with pytest.raises(QuantizerError) as caught:
        get_quantizer(name)(llama)
    assert (
        f" cannot quantize '{UP}': it shares its weight with 'model.layers.1.mlp.up_proj'{IN_PLACE}"
    ) in str(caught.value)
    once = first.up_proj.weight.detach().clone()
    RoundToNearest(bits=4).grid.round_(once)
    rounded = get_quantizer("rtn-int4")(llama)
    assert torch.equal(rounded.model.layers[0].mlp.up_proj.weight, once)
    assert rounded.model.layers[1].mlp.up_proj.weight is first.up_proj.weight


def test_a_layer_that_shares_the_weight_of_the_head_is_left_like_the_head(llama):
    extra = nn.Linear(64, 300, bias=False)
    extra.weight = llama.lm_head.weight
    llama.model.extra = extra
    before = llama.lm_head.weight.detach().clone()
    assert torch.equal(get_quantizer("rtn-int4")(llama).lm_head.weight, before)


def test_a_model_that_needs_more_than_text(llama, name):
    class Captioner(type(llama)):
        def forward(self, *args, pixel_values, **kwargs):
            return super().forward(*args, **kwargs)

    llama.__class__ = Captioner
    with pytest.raises(QuantizerError, match=r"^Captioner does not run on text alone: .*pixel_v"):
        get_quantizer(name)(llama)


def test_a_model_that_runs_no_more_once_quantized(llama, monkeypatch):
    def fail(self, x):
        raise RuntimeError("no\n kernel")

    monkeypatch.setattr("optimum.quanto.QLinear.forward", fail)
    with pytest.raises(
        QuantizerError, match=r"^LlamaForCausalLM does not run as quanto quantizes it: no kernel$"
    ):
        get_quantizer("quanto-int4")(llama)


def test_names_that_begin_alike(llama):
    """Transformers skips every layer with a name that begins with, or ends in, a skipped name."""
    pytest.importorskip("bitsandbytes")
    llama.model.layers[0].mlp_adapter = nn.Linear(64, 64)
    llama.model.layers[1].mlp.up_proj_adapter = nn.Linear(64, 64)
    skip = ["model.layers.0.mlp.*", "model.layers.1.mlp.up_proj"]
    quantized = get_quantizer("bnb-nf4", skip=skip)(llama)
    kinds = {n: type(m).__name__ for n, m in quantized.named_modules()}
    left = {name for name, kind in kinds.items() if kind == "Linear"}
    parts = ("gate_proj", "up_proj", "down_proj")
    assert left == {
        *(f"model.layers.0.mlp.{part}" for part in parts),
        "model.layers.1.mlp.up_proj",
        "lm_head",
    }
    assert not any(parameter.is_meta for parameter in quantized.parameters())
