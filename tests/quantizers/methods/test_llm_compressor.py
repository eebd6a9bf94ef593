"""GPTQ and AWQ: against their definitions, as folders, and with settings that are refused."""

import copy
import gc
import weakref

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, GPTNeoXConfig, GPTNeoXForCausalLM
from transformers.pytorch_utils import Conv1D

from quantizers import QuantizerError, get_quantizer
from quantizers.layers import linear_layers
from quantizers.saving import load_quantized, save_quantized

pytest.importorskip("llmcompressor")

NAMES = ["gptq-int4", "awq-int4"]


@pytest.fixture
def build(tokenizer, texts):
    """A function from a name and parameters to a quantizer bound to text."""

    def build(name, **params):
        return get_quantizer(name, **{"samples": 8, "window": 32} | params).calibrated(
            tokenizer, texts
        )

    return build


@torch.no_grad()
def inputs_of(model, name, quantizer):
    """Inputs of the layer ``name`` of an unquantized model on the text, tokens × inputs."""
    seen = []
    hook = model.get_submodule(name).register_forward_pre_hook(
        lambda module, args: seen.append(args[0].flatten(0, 1).double())
    )
    for window in quantizer.calibration.windows:
        model(torch.tensor([window]))
    hook.remove()
    return torch.cat(seen)


def symmetric_scales(weight):
    """One scale for each row: max|W| over the middle of -8 … 7."""
    return weight.abs().amax(dim=1, keepdim=True) / 7.5


def gptq(weight, inputs):
    """Algorithm 1 of the paper without its blocks, columns in descending order of the Hessian.

    Args:
        weight: outputs × inputs, float64, its inputs one group.
        inputs: tokens × inputs, float64.
    """
    scales = symmetric_scales(weight)
    hessian = inputs.T @ inputs
    order = hessian.diagonal().argsort(descending=True)
    hessian = hessian[order][:, order]
    hessian += 0.01 * hessian.diagonal().mean() * torch.eye(len(hessian))
    upper = torch.linalg.cholesky(hessian.inverse(), upper=True)
    left, result = weight[:, order].clone(), torch.empty_like(weight)
    for i in range(len(hessian)):
        rounded = (left[:, i : i + 1] / scales).round().clamp(-8, 7) * scales
        result[:, order[i]] = rounded[:, 0]
        error = (left[:, i : i + 1] - rounded) / upper[i, i]
        left[:, i:] -= error * upper[i, i:]
    return result


def test_gptq_follows_the_paper(llama, build):
    """The first layer, with inputs that do not depend on quantized layers."""
    quantizer = build("gptq-int4")
    name = "model.layers.0.self_attn.q_proj"
    weight = llama.get_submodule(name).weight.detach().double()
    inputs = inputs_of(llama, name, quantizer)
    result = quantizer(llama).get_submodule(name).weight.double()
    scales = symmetric_scales(weight)
    steps = result / scales
    torch.testing.assert_close(steps, steps.round().clamp(-8, 7), atol=1e-4, rtol=0)
    same = (result - gptq(weight, inputs)).abs() < scales / 10
    assert same.double().mean() > 0.99  # one rounded otherwise moves others of its row

    nearest = (weight / scales).round().clamp(-8, 7) * scales
    squares = [(inputs @ (w - weight).T).square().sum() for w in (result, nearest)]
    assert squares[0] < 0.5 * squares[1]


def test_awq_scales_features_and_rounds(llama, logits, build, tokens):
    """Ten features are read 20 times as large as the others.

    With the scale s_j of a feature, its norm n_j / s_j times its weight w_j s_j, rounded, is as
    far from n_j w_j as rounding went: one step of the grid (half a step from the weight, half
    from the zero point) times the new norm.
    """
    with torch.no_grad():
        for layer in llama.model.layers:
            layer.input_layernorm.weight[:10] = 20
            layer.post_attention_layernorm.weight[:10] = 20
    original, nearest = copy.deepcopy(llama), copy.deepcopy(llama)
    quantized = build("awq-int4")(llama)
    for block, before in zip(quantized.model.layers, original.model.layers, strict=True):
        norm, norm_before = block.input_layernorm.weight, before.input_layernorm.weight
        assert not torch.allclose(norm / norm.mean(), norm_before / norm_before.mean(), rtol=0.1)
        for name in ("q_proj", "k_proj", "v_proj"):
            after = block.self_attn.get_submodule(name)
            assert all(len(row.unique()) <= 16 for row in after.weight)
            moved = after.weight * norm - before.self_attn.get_submodule(name).weight * norm_before
            assert (moved.abs() <= after.weight_scale * norm * 1.01).all()

    for layer in linear_layers(nearest):
        weight = layer.weight.data
        low, high = weight.aminmax(dim=1, keepdim=True)
        step = (high.clamp(min=0) - low.clamp(max=0)) / 15
        weight.div_(step).round_().mul_(step)
    errors = [(logits(m) - logits(original)).square().mean() for m in (quantized, nearest)]
    assert errors[0] < 0.7 * errors[1]


@pytest.mark.parametrize("name", NAMES)
def test_the_text_decides(llama, logits, build, tokenizer, name):
    original = copy.deepcopy(llama)
    results = [logits(build(name)(copy.deepcopy(original))) for _ in range(2)]
    assert torch.equal(*results)
    other = get_quantizer(name).calibrated(tokenizer, ["what a storm over the sea, they say"])
    assert not torch.equal(logits(other(llama)), results[0])


@pytest.mark.parametrize("name", NAMES)
def test_a_plain_from_pretrained_reads_the_folder(llama, logits, build, name, tmp_path):
    quantizer = build(name, skip=["*.down_proj", "*.k_proj"])
    head = llama.lm_head.weight.detach().clone()
    kept = llama.model.layers[1].mlp.down_proj.weight.detach().clone()
    quantized = quantizer(llama)
    assert torch.equal(quantized.lm_head.weight, head)
    if name == "gptq-int4":
        assert torch.equal(quantized.model.layers[1].mlp.down_proj.weight, kept)
    before = logits(quantized)
    save_quantized(quantized, tmp_path, quantizer)
    assert torch.equal(logits(quantized), before)
    assert torch.equal(logits(AutoModelForCausalLM.from_pretrained(tmp_path)), before)
    tensors = load_file(tmp_path / "model.safetensors")
    assert tensors["model.layers.1.mlp.up_proj.weight_packed"].dtype == torch.int32
    assert tensors["model.layers.1.mlp.up_proj.weight_packed"].shape == (96, 64 // 8)
    assert "model.layers.1.mlp.down_proj.weight_packed" not in tensors
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "quantizer.json",
    ]


@pytest.mark.parametrize("name", NAMES)
def test_conv1d_layers_stay_what_they_are(gpt2, logits, build, name, tmp_path):
    weight = gpt2.transformer.h[0].mlp.c_fc.weight.detach().clone()
    quantizer = build(name)
    quantized = quantizer(gpt2)
    layer = quantized.transformer.h[0].mlp.c_fc
    assert type(layer) is Conv1D
    assert layer.weight.shape == weight.shape
    assert all(len(column.unique()) <= 16 for column in layer.weight.T)
    assert (layer.weight - weight).abs().max() < 0.1
    save_quantized(quantized, tmp_path, quantizer)
    assert torch.equal(logits(AutoModelForCausalLM.from_pretrained(tmp_path)), logits(quantized))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_reloaded_in_the_same_dtype(llama, logits, build, name, dtype, tmp_path):
    llama.save_pretrained(tmp_path / "original")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "original", dtype=dtype)
    source = loaded.config._name_or_path
    quantizer = build(name)
    quantized = quantizer(loaded)
    assert quantized.config._name_or_path == source
    save_quantized(quantized, tmp_path / "quantized", quantizer)
    reloaded = load_quantized(tmp_path / "quantized")
    assert reloaded.dtype == quantized.dtype == dtype
    assert torch.equal(logits(reloaded), logits(quantized))


@pytest.mark.parametrize("name", NAMES)
def test_groups_that_do_not_divide_a_layer(llama, build, name):
    """64 inputs are two groups of 32 where 48 are asked for, 96 are two of 48; with 31, a row."""
    quantized = build(name, group_size=48)(copy.deepcopy(llama))
    layer = quantized.model.layers[0].mlp
    assert layer.up_proj.weight_scale.shape == (96, 2)
    assert layer.down_proj.weight_scale.shape == (64, 2)
    quantized = build(name, group_size=31)(llama)
    assert quantized.model.layers[0].mlp.up_proj.weight_scale.shape == (96, 1)


@pytest.mark.parametrize("name", NAMES)
def test_the_head_is_quantized_when_asked_for(llama, build, name):
    assert hasattr(build(name, quantize_head=True)(llama).lm_head, "weight_scale")


@pytest.mark.parametrize("name", NAMES)
def test_nothing_holds_on_to_the_model(llama, build, name):
    quantized = build(name)(copy.deepcopy(llama))
    assert "save_pretrained" not in vars(quantized)
    reference = weakref.ref(quantized)
    del quantized
    gc.collect()
    assert reference() is None


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("place", ["model.layers.1.mlp.up_proj", "model.embed_tokens"])
def test_weights_that_are_not_finite_are_refused(llama, build, name, place):
    with torch.no_grad():
        llama.get_submodule(place).weight[3, 5] = float("nan")
    with pytest.raises(QuantizerError, match=f"'{place}' holds NaN"):
        build(name)(llama)


def test_layers_that_gptq_could_only_round_are_refused(llama, build, monkeypatch):
    from llmcompressor.modifiers.gptq import gptq_quantize

    factorize = gptq_quantize.factorize_hessian

    def fail(weights, hessians, damping, used_rtn_fallback):
        used_rtn_fallback[:] = True
        return factorize(weights, hessians, damping, used_rtn_fallback)

    monkeypatch.setattr(gptq_quantize, "factorize_hessian", fail)
    with pytest.raises(QuantizerError, match="no inverse Hessian for 14 layers"):
        build("gptq-int4")(llama)


def test_awq_refuses_models_of_which_it_knows_no_order(build):
    config = GPTNeoXConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        vocab_size=300,
    )
    model = GPTNeoXForCausalLM(config).eval()
    with pytest.raises(QuantizerError, match=r"which layers of GPTNeoXForCausalLM it can scale"):
        build("awq-int4")(model)
    weight = model.gpt_neox.layers[0].mlp.dense_h_to_4h.weight.detach().clone()
    result = build("gptq-int4")(model).gpt_neox.layers[0].mlp.dense_h_to_4h.weight
    assert not torch.equal(result, weight)
