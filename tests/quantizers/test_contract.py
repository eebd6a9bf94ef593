"""Properties of every registered quantizer, found through the registry."""

import copy
import json

import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from transformers.pytorch_utils import Conv1D

from quantizers import CalibratedQuantizer, get_quantizer, list_quantizers
from quantizers.layers import linear_layers
from quantizers.registry import quantizer_name
from quantizers.saving import load_quantized, save_quantized
from quantizers.survival import measure_rounding

NAMES = list(list_quantizers())
LIBRARIES = {"bnb": "bitsandbytes", "gptq": "llmcompressor", "awq": "llmcompressor"}


@pytest.fixture(params=NAMES)
def name(request):
    library = LIBRARIES.get(request.param.partition("-")[0])
    if library:
        pytest.importorskip(library)
    return request.param


@pytest.fixture
def quantizer(name, tokenizer, texts):
    """Ready to be called on models."""
    quantizer = get_quantizer(name)
    if isinstance(quantizer, CalibratedQuantizer):
        return get_quantizer(name, samples=8, window=32).calibrated(tokenizer, texts)
    return quantizer


@pytest.mark.parametrize("name", NAMES)
def test_configuration_round_trips_through_json(name):
    quantizer = get_quantizer(name)
    values = json.loads(json.dumps(quantizer.to_dict()))
    assert get_quantizer(name, **values) == quantizer
    assert quantizer_name(quantizer) == name


def test_it_quantizes_and_the_model_works(name, quantizer, model, logits, tokens):
    original = copy.deepcopy(model)
    size = sum(tensor.nbytes for tensor in model.state_dict().values())
    quantized = quantizer(model)
    assert logits(quantized).isfinite().all()
    assert not quantized.training
    text = quantized.generate(tokens, max_new_tokens=5, min_new_tokens=5, do_sample=False)
    assert text.shape == (2, tokens.shape[1] + 5)
    if quantizer.bits is None:
        assert torch.equal(logits(quantized), logits(original))
    else:
        smaller = sum(tensor.nbytes for tensor in quantized.state_dict().values()) < size
        assert smaller or not torch.equal(logits(quantized), logits(original))
        # 8 bits stay close; 2 bits still are the same kind of numbers
        worst = 0.05 if quantizer.bits >= 8 else 1.0
        assert (logits(quantized) - logits(original)).abs().max() < worst


def test_a_layer_computes_with_its_dequantized_weight(quantizer, model):
    """The outputs for an identity matrix are the weight, transposed, plus the bias."""
    layers = linear_layers(copy.deepcopy(model))
    quantized = quantizer(model)
    for layer in layers:
        module = quantized.get_submodule(layer.name)
        weight = quantizer.dequantize(module)
        if weight is None:
            continue
        if isinstance(module, Conv1D):
            weight = weight.T
        inputs = layer.weight.shape[layer.axis]
        with torch.no_grad():
            result = module(torch.eye(inputs, dtype=quantized.dtype))
        expected = weight.T.float()
        if layer.module.bias is not None:
            expected = expected + layer.module.bias
        torch.testing.assert_close(result.float(), expected, atol=2e-3, rtol=1e-3)


def test_rounding_keeps_an_update_of_random_weights_on_average(quantizer, model, updated):
    """The update has 0.15 standard deviations of the weights; 2 and 3 bits are only rough."""
    result = measure_rounding(model, updated, quantizer, quantizer(copy.deepcopy(updated)))
    if quantizer.dequantize(linear_layers(model)[0].module) is None:
        assert result is None
    else:
        few = quantizer.bits is not None and quantizer.bits < 4
        assert result.total.kept_share == pytest.approx(1, abs=0.5 if few else 0.1)
        assert (result.total.noise == 0) == (quantizer.bits is None)


def test_bits_bound_the_levels_of_a_row(quantizer, llama):
    """64 weights that share a scale take more than half of the levels, and no more than all."""
    layer = quantizer(llama).model.layers[0].mlp.up_proj
    weight = quantizer.dequantize(layer)
    if quantizer.bits is None or quantizer.bits > 4 or weight is None:
        pytest.skip("not so few levels, or no weights to compare")
    levels = max(len(row.unique()) for row in weight)
    assert 2 ** (quantizer.bits - 1) < levels <= 2**quantizer.bits


def test_bfloat16_models(quantizer, model, logits):
    quantized = quantizer(model.to(torch.bfloat16))
    assert logits(quantized).isfinite().all()
    assert quantized.get_input_embeddings().weight.dtype == torch.bfloat16


def test_a_saved_model_gives_the_same_logits(quantizer, model, logits, tmp_path):
    quantized = quantizer(model)
    save_quantized(quantized, tmp_path, quantizer)
    assert torch.equal(logits(load_quantized(tmp_path)), logits(quantized))


def test_a_batch_of_lm_eval_requests(quantizer, llama, tokenizer):
    """Batched, left-padded and sorted by length, the answers are those one by one."""
    quantized = quantizer(llama)
    contexts = ["the mill by the", "a lamp in the window by the river in the", "river"]

    def answers(batch_size):
        lm = HFLM(pretrained=quantized, tokenizer=tokenizer, batch_size=batch_size)

        def requests(kind, argument):
            return [
                Instance(request_type=kind, doc={}, arguments=(text, argument), idx=i)
                for i, text in enumerate(contexts)
            ]

        scores = lm.loglikelihood(requests("loglikelihood", " river"), disable_tqdm=True)
        settings = {"until": ["\n\n"], "max_gen_toks": 4, "do_sample": False}
        texts = lm.generate_until(requests("generate_until", settings), disable_tqdm=True)
        return torch.tensor([score for score, _ in scores]), texts

    scores, texts = answers(3)
    one_by_one, texts_one_by_one = answers(1)
    torch.testing.assert_close(scores, one_by_one, atol=1e-3, rtol=1e-3)
    assert texts == texts_one_by_one
