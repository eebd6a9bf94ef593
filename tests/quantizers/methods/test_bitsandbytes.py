"""bitsandbytes on the CPU: its formats, and equality with transformers' way of loading."""

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BitsAndBytesConfig,
    HrmTextConfig,
    HrmTextForCausalLM,
)

from quantizers import QuantizerError, get_quantizer
from quantizers.saving import load_quantized, save_quantized

bnb = pytest.importorskip("bitsandbytes")

# Magnitudes of bitsandbytes' FP4: 12, 8, 6, 4, 3, 2, 1/16 and 0, over 12.
FP4 = torch.tensor([12, 8, 6, 4, 3, 2, 1 / 16, 0]) / 12
LOADING = {
    "bnb-fp4": dict(load_in_4bit=True, bnb_4bit_compute_dtype=torch.float32),
    "bnb-nf4": dict(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32
    ),
    "bnb-int8": dict(load_in_8bit=True),
}


def dequantized(layer):
    return bnb.functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state)


def test_fp4_takes_blocks_of_64_to_sixteen_values(llama):
    layer = llama.model.layers[0].mlp.up_proj
    blocks = layer.weight.detach().clone().view(-1, 64)
    quantized = get_quantizer("bnb-fp4")(llama).model.layers[0].mlp.up_proj
    peaks = blocks.abs().amax(dim=1, keepdim=True)
    values = dequantized(quantized).view(-1, 64) / peaks
    distance = (values.abs().unsqueeze(-1) - FP4).abs()
    assert distance.amin(dim=-1).max() < 1e-5
    nearest = (blocks.abs() / peaks).unsqueeze(-1).sub(FP4).abs().argmin(dim=-1)
    assert (distance.argmin(dim=-1) == nearest).float().mean() > 0.99
    assert values.abs().amax(dim=1).allclose(torch.ones(1))  # the largest of a block is kept


def test_int8_weights_are_symmetric_per_output(llama):
    weight = llama.model.layers[0].mlp.up_proj.weight.detach().clone()
    quantized = get_quantizer("bnb-int8")(llama).model.layers[0].mlp.up_proj
    half = weight.half().float()
    scale = half.abs().amax(dim=1, keepdim=True) / 127
    indices = quantized.weight.data
    assert indices.dtype == torch.int8
    assert (indices - half / scale).abs().max() <= 0.51


@pytest.mark.parametrize("name", LOADING)
def test_in_memory_equals_quantizing_on_loading(model, logits, name, tmp_path):
    model.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(
        tmp_path, quantization_config=BitsAndBytesConfig(**LOADING[name])
    )
    for module in loaded.modules():
        if isinstance(module, bnb.nn.Linear4bit):  # not the bfloat16 kernel of some processors
            module.support_avx512bf16_for_cpu = False
    quantized = get_quantizer(name)(model)
    assert torch.equal(logits(quantized), logits(loaded))
    assert quantized.is_quantized


@pytest.mark.parametrize("name", LOADING)
def test_a_plain_from_pretrained_reads_the_folder(llama, logits, name, tmp_path):
    quantized = get_quantizer(name, skip=["*.down_proj"])(llama)
    quantized.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert type(loaded.model.layers[1].mlp.down_proj) is torch.nn.Linear
    assert type(loaded.lm_head) is torch.nn.Linear
    if name == "bnb-int8":
        assert torch.equal(logits(loaded), logits(quantized))
    else:
        for ours, theirs in zip(quantized.modules(), loaded.modules(), strict=True):
            if isinstance(ours, bnb.nn.Linear4bit):
                assert torch.equal(dequantized(ours), dequantized(theirs))


@pytest.mark.parametrize("name", LOADING)
def test_parts_that_a_model_keeps_in_float32_are_left_as_on_loading(llama, name):
    llama._keep_in_fp32_modules = {"down_proj"}
    before = llama.model.layers[0].mlp.down_proj.weight.detach().clone()
    quantized = get_quantizer(name)(llama)
    assert torch.equal(quantized.model.layers[0].mlp.down_proj.weight, before)
    assert type(quantized.model.layers[0].mlp.up_proj) is not torch.nn.Linear


@pytest.mark.parametrize("name", LOADING)
def test_a_checkpoint_that_joins_layers(logits, name, tmp_path):
    """HRM's has the attention's projections in one tensor; quantized ones are separate."""
    torch.manual_seed(0)
    config = HrmTextConfig(
        hidden_size=64,
        intermediate_size=96,
        num_layers_per_stack=1,
        num_attention_heads=4,
        head_dim=16,
        vocab_size=300,
        H_cycles=1,
        L_cycles=1,
        L_bp_cycles=[1],
        pad_token_id=0,
    )
    quantizer = get_quantizer(name)
    quantized = quantizer(HrmTextForCausalLM(config).eval())
    save_quantized(quantized, tmp_path, quantizer)
    assert torch.equal(logits(load_quantized(tmp_path)), logits(quantized))


def test_the_computation_takes_the_dtype_of_the_model(llama):
    quantized = get_quantizer("bnb-nf4")(llama.to(torch.bfloat16))
    assert quantized.model.layers[0].mlp.up_proj.compute_dtype == torch.bfloat16


def test_double_quantization_shrinks_the_scales(llama):
    plain = get_quantizer("bnb-nf4", double_quant=True)(llama)
    assert plain.model.layers[0].mlp.up_proj.weight.quant_state.nested


@pytest.mark.parametrize("name", LOADING)
def test_rows_of_zeros_stay_finite(llama, logits, name):
    with torch.no_grad():
        llama.model.layers[0].mlp.up_proj.weight[3] = 0
    assert logits(get_quantizer(name)(llama)).isfinite().all()


@pytest.mark.parametrize("name", LOADING)
def test_weights_that_are_not_finite_are_refused(llama, name):
    with torch.no_grad():
        llama.model.layers[1].mlp.up_proj.weight[3, 5] = float("nan")
    with pytest.raises(QuantizerError, match=r"'model.layers.1.mlp.up_proj' holds NaN"):
        get_quantizer(name)(llama)


@pytest.mark.parametrize("name", LOADING)
def test_a_missing_bitsandbytes_says_what_to_install(llama, name, monkeypatch):
    monkeypatch.setattr("quantizers.methods.bitsandbytes.find_spec", lambda name: None)
    with pytest.raises(QuantizerError, match=r"pip install 'lm-eval-muse\[bnb\]'"):
        get_quantizer(name)(llama)


@pytest.mark.parametrize("threshold", [6.0, 0.0])
def test_int8_outputs_depend_on_the_batch_where_there_is_a_threshold(llama, threshold):
    """A batch mate with one value beyond the threshold changes the row; a plain mate does not.

    The outlier's feature is then multiplied in floating point for the whole batch.
    """
    quantizer = get_quantizer("bnb-int8", threshold=threshold)
    layer = quantizer(llama).model.layers[0].mlp.up_proj
    row, plain = torch.randn(2, 64, generator=torch.Generator().manual_seed(0)).clamp(-3, 3)
    outlier = plain.clone()
    outlier[7] = 20.0
    with torch.no_grad():
        alone, with_plain, with_outlier = (
            layer(torch.stack(batch))[0] for batch in ([row], [row, plain], [row, outlier])
        )
    assert torch.equal(alone, with_plain)
    assert torch.equal(alone, with_outlier) != quantizer.depends_on_batch
    assert quantizer.depends_on_batch == (threshold > 0)


@pytest.mark.parametrize("name", ["bnb-fp4", "rtn-int8", "none"])
def test_other_quantizers_do_not_depend_on_the_batch(name):
    assert not get_quantizer(name).depends_on_batch
