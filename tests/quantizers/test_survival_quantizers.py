"""Share of an update that quantizers of every kind keep."""

import copy
import dataclasses
from typing import ClassVar

import pytest
import torch
from torch import nn

from quantizers import (
    CalibratedQuantizer,
    Quantizer,
    QuantizerError,
    get_quantizer,
)
from quantizers.layers import linear_layers
from quantizers.methods.rtn import RoundToNearest
from quantizers.survival import measure_rounding

UP = "model.layers.1.mlp.up_proj"


def measured(target, unlearned, quantizer):
    return measure_rounding(target, unlearned, quantizer, quantizer(copy.deepcopy(unlearned)))


def shares(delta, moved, zeros):
    """Kept share, noise and zeroed share, in float64, from float64 matrices."""
    squares = delta.square().sum()
    kept = (moved * delta).sum() / squares
    noise = ((moved - delta).square().sum() / squares).sqrt()
    return [x.item() for x in (kept, noise, delta[zeros].square().sum() / squares)]


def numbers(result):
    return [result.kept_share, result.noise, result.zeroed_share]


def library_weight(module):
    """Dequantized weight, outputs × inputs, by the functions of the library it comes from."""
    if type(module).__name__ == "QLinear":
        return module.weight.dequantize().double()
    import bitsandbytes as bnb

    if isinstance(module, bnb.nn.Linear8bitLt):
        return module.weight.data.double() * module.weight.SCB.double()[:, None] / 127
    return bnb.functional.dequantize_4bit(module.weight.data, module.weight.quant_state).double()


@pytest.mark.parametrize(
    "name", ["bnb-fp4", "bnb-nf4", "bnb-int8", "quanto-int8", "quanto-int4", "quanto-float8"]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_against_the_weights_of_the_library(model, updated, name, dtype):
    if name.startswith("bnb"):
        pytest.importorskip("bitsandbytes")
    quantizer = get_quantizer(name)
    target, unlearned = model.to(dtype), updated.to(dtype)
    summary = measured(target, unlearned, quantizer)
    quantized = [quantizer(copy.deepcopy(m)) for m in (target, unlearned)]
    deltas, moves, zeros = [], [], []
    for layer in linear_layers(target):
        pair = layer.weight, unlearned.get_submodule(layer.name).weight
        old, new = (w.detach().double().T if layer.axis == 0 else w.detach().double() for w in pair)
        q_old, q_new = (library_weight(m.get_submodule(layer.name)) for m in quantized)
        expected = shares(new - old, q_new - q_old, q_old == 0)
        result = summary.layers[layer.name]
        assert numbers(result) == pytest.approx(expected, rel=1e-4, abs=1e-6)
        assert result.changed_indices is result.changed_scales is result.largest_move is None
        deltas.append((new - old).flatten())
        moves.append((q_new - q_old).flatten())
        zeros.append((q_old == 0).flatten())
    expected = shares(torch.cat(deltas), torch.cat(moves), torch.cat(zeros))
    assert numbers(summary.total) == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert summary.total.kept_share > 0.5


def test_the_identity_keeps_everything(model, updated):
    result = measure_rounding(model, updated, get_quantizer("none"), updated)
    for layer in (result.total, *result.kinds.values(), *result.layers.values()):
        assert numbers(layer) == [1, 0, 0]
        assert layer.changed_indices is layer.changed_scales is layer.largest_move is None


def test_an_update_inside_the_zero_bin_is_removed(llama):
    """A peak of 8 makes steps of 1 for the matrix; 0.1 becomes 0.3, and both round to 0."""
    weight = llama.get_submodule(UP).weight.data
    weight.fill_(0.1)[0, 0] = 8
    unlearned = copy.deepcopy(llama)
    weight = unlearned.get_submodule(UP).weight.data
    weight.fill_(0.3)[0, 0] = 8
    result = measured(llama, unlearned, RoundToNearest(bits=4, group_size="tensor"))
    assert numbers(result.layers[UP]) == numbers(result.total) == [0, 1, 1]
    assert result.total.changed_indices == 0
    assert result.total.largest_move == pytest.approx(0.2)


@pytest.mark.parametrize(("bits", "error"), [(8, 0.01), (4, 0.2)])
def test_a_stretched_model_keeps_its_update_though_no_index_changes(llama, bits, error):
    """Every weight · 1.1: scales grow with it, so Q(1.1 W) = 1.1 Q(W), with the indices of W.

    The update left is 0.1 Q(W), and noise is the relative rounding error ‖Q(W) − W‖ / ‖W‖. In
    float64, where no product falls on the other side of a tie.
    """
    unlearned = copy.deepcopy(llama.double())
    for layer in linear_layers(unlearned):
        layer.weight.data *= 1.1
    quantizer = RoundToNearest(bits=bits)
    result = measured(llama, unlearned, quantizer).total
    assert result.changed_indices == 0
    assert result.changed_scales == 1
    assert result.kept_share == pytest.approx(1, abs=0.02)
    rounded = quantizer(copy.deepcopy(llama))
    pairs = zip(linear_layers(rounded), linear_layers(llama), strict=True)
    errors = torch.cat([(q.weight - w.weight).flatten() for q, w in pairs])
    weights = torch.cat([layer.weight.flatten() for layer in linear_layers(llama)])
    assert result.noise == pytest.approx((errors.norm() / weights.norm()).item(), rel=1e-3)
    assert result.noise < error


def test_layers_that_are_left_alone_count_with_their_own_weights(llama, updated_llama):
    quantizer = RoundToNearest(bits=4, skip=("*.up_proj",))
    result = measured(llama, updated_llama, quantizer)
    everywhere = measured(llama, updated_llama, RoundToNearest(bits=4))
    assert numbers(result.kinds["up_proj"]) == [1, 0, 0]
    assert result.kinds["up_proj"].changed_indices is None
    assert result.kinds["up_proj"].largest_move is None
    assert result.kinds["q_proj"] == everywhere.kinds["q_proj"]
    assert result.total.noise < everywhere.total.noise
    rounded = [layer for name, layer in result.layers.items() if not name.endswith("up_proj")]
    sizes = [layer.weight.numel() for layer in linear_layers(llama, skip=quantizer.skip)]
    changed = sum(layer.changed_indices * n for layer, n in zip(rounded, sizes, strict=True))
    assert result.total.changed_indices == pytest.approx(changed / sum(sizes))


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainedSteps(CalibratedQuantizer):
    """Rounds a layer to multiples of a step that follows its gradients on the text."""

    bits: ClassVar[float] = 5

    def step(self, weight):
        return weight.grad.abs().max()

    def quantize(self, model, windows):
        ids = torch.tensor(windows)
        model(ids, labels=ids).loss.backward()
        for layer in linear_layers(model):
            step = self.step(layer.weight)
            layer.weight.data.div_(step).round_().mul_(step)
        return model


def test_a_calibrated_quantizer(llama, updated_llama, tokenizer, texts):
    """It sees its text on both models, each with gradients of its own."""
    quantizer = TrainedSteps(samples=2, window=8).calibrated(tokenizer, texts)
    result = measured(llama, updated_llama, quantizer).layers[UP]
    weights, rounded = [], []
    for model in (llama, updated_llama):
        assert model.get_submodule(UP).weight.grad is None
        weight = model.get_submodule(UP).weight.detach().double()
        step = quantizer.step(quantizer(copy.deepcopy(model)).get_submodule(UP).weight).double()
        weights.append(weight)
        rounded.append((weight / step).round() * step)
    expected = shares(weights[1] - weights[0], rounded[1] - rounded[0], rounded[0] == 0)
    assert numbers(result) == pytest.approx(expected, rel=1e-3, abs=1e-5)
    assert 0 < result.zeroed_share < 1


class Hidden(nn.Linear):
    pass


class HiddenWeights(Quantizer):
    """A quantizer with one layer that cannot be dequantized."""

    bits = 4

    def __call__(self, model):
        model.set_submodule(UP, Hidden(*model.get_submodule(UP).weight.T.shape, bias=False))
        return model

    def dequantize(self, module):
        return None if isinstance(module, Hidden) else super().dequantize(module)


def test_none_where_weights_cannot_be_compared(llama, updated_llama):
    """AWQ without text could not quantize the target: it is not asked to."""
    awq = get_quantizer("awq-int4")
    assert measure_rounding(llama, updated_llama, awq, copy.deepcopy(updated_llama)) is None
    assert measured(llama, updated_llama, HiddenWeights()) is None


def test_the_models_given_stay_as_they_are(model, updated):
    models = model, updated, get_quantizer("rtn-int4")(copy.deepcopy(updated))
    before = [copy.deepcopy(m.state_dict()) for m in models]
    measure_rounding(model, updated, get_quantizer("rtn-int4"), models[2])
    for m, state in zip(models, before, strict=True):
        for name, tensor in m.state_dict().items():
            assert torch.equal(tensor, state[name])


class Transposed(Quantizer):
    bits = 4

    def __call__(self, model):
        return model

    def dequantize(self, module):
        return module.weight.T


def test_what_is_no_quantized_form_of_the_unlearned_model(llama, updated_llama, gpt2):
    int4 = get_quantizer("rtn-int4")
    with pytest.raises(QuantizerError, match=r"RoundToNearest got the unlearned model itself; qua"):
        measure_rounding(llama, updated_llama, int4, int4(updated_llama))
    with pytest.raises(QuantizerError, match=r"GPT2LMHeadModel has no layer 'model.layers.0"):
        measure_rounding(llama, updated_llama, int4, gpt2)
    with pytest.raises(
        QuantizerError, match=r"Transposed.dequantize gives .* \(64, 32\) .*k_proj'"
    ):
        measured(llama, updated_llama, Transposed())
