"""Size of an update and its grid crossings: worked by hand, and against a reference in numpy."""

import copy
import json
import math

import numpy as np
import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from quantizers import QuantizerError, get_quantizer
from quantizers.methods.rtn import RoundToNearest
from quantizers.survival import Update, measure_rounding, measure_update

O_PROJ = "model.layers.0.self_attn.o_proj"


def with_row(model, name, values):
    """A copy in which the layer ``name`` is zero but for the first weights of one row."""
    changed = copy.deepcopy(model)
    weight = changed.get_submodule(name).weight.data
    weight.zero_()[5, : len(values)] = torch.tensor(values)
    return changed


def rounding(target, unlearned, quantizer):
    quantized = quantizer(copy.deepcopy(unlearned))
    return measure_rounding(target, unlearned, quantizer, quantized)


def test_by_hand(llama):
    """A row 8, 1, 2, 0 becomes 8, 1.4, 2.6, 0.3, everything else stays; int4 has 16 levels.

    ΔW = (0, 0.4, 0.6, 0.3): ‖ΔW‖² = 0.61, ‖W0‖² = 69; it has rank 1. With s = 8/8 = 1 the indices
    7, 1, 2, 0 become 7, 1, 3, 0: one of 64 · 64 changes, and the largest move is 0.6 steps.
    Q(Wu) − Q(W0) = (0, 0, 1, 0), so 0.6 / 0.61 is kept. It differs from ΔW by (0, 0.4, 0.4, 0.3),
    whose square is 0.41. Only the fourth weight has index 0 in W0: 0.09 / 0.61 is zeroed.
    """
    target = with_row(llama, O_PROJ, [8.0, 1.0, 2.0])
    unlearned = with_row(llama, O_PROJ, [8.0, 1.4, 2.6, 0.3])
    updates = measure_update(target, unlearned)
    update = updates.layers[O_PROJ]
    assert update.parameters == 64 * 64
    assert update.norm == pytest.approx(math.sqrt(0.61), rel=1e-6)
    assert update.relative_norm == pytest.approx(math.sqrt(0.61 / 69), rel=1e-6)
    assert update.effective_rank == pytest.approx(1)
    assert updates.kinds["o_proj"].parameters == 2 * 64 * 64
    assert updates.kinds["o_proj"].effective_rank == pytest.approx(1 / 2)
    assert updates.kinds["up_proj"] == Update(
        parameters=2 * 96 * 64, norm=0, relative_norm=0, effective_rank=0
    )
    assert updates.total.norm == update.norm
    assert updates.total.effective_rank == pytest.approx(1 / 14)

    roundings = rounding(target, unlearned, RoundToNearest(bits=4))
    result = roundings.layers[O_PROJ]
    assert result.kept_share == pytest.approx(0.6 / 0.61, rel=1e-6)
    assert result.noise == pytest.approx(math.sqrt(0.41 / 0.61), rel=1e-6)
    assert result.zeroed_share == pytest.approx(0.09 / 0.61, rel=1e-6)
    assert result.changed_indices == 1 / 4096
    assert result.changed_scales == 0
    assert result.largest_move == pytest.approx(0.6, rel=1e-6)
    assert roundings.kinds["o_proj"].changed_indices == 1 / 8192
    assert roundings.total.changed_indices * updates.total.parameters == 1
    assert roundings.total.kept_share == result.kept_share


def test_a_scale_moves_indices_of_weights_that_stay(llama):
    """8, 1 becomes 16, 1: s from 1 to 2, and the index of the weight 1 from 1 to round(0.5) = 0.

    Q goes from (7, 1) to (14, 0), so that (7, −1) is left of ΔW = (8, 0).
    """
    target, unlearned = with_row(llama, O_PROJ, [8.0, 1.0]), with_row(llama, O_PROJ, [16.0, 1.0])
    result = rounding(target, unlearned, RoundToNearest(bits=4)).layers[O_PROJ]
    assert result.changed_indices == 1 / 4096
    assert result.changed_scales == 1 / 64
    assert result.largest_move == 8
    assert result.kept_share == 7 * 8 / 64
    assert result.noise == pytest.approx(math.sqrt((1 + 1) / 64))
    assert result.zeroed_share == 0


def test_no_update(llama):
    update = measure_update(llama, copy.deepcopy(llama))
    assert update.total.norm == update.total.relative_norm == update.total.effective_rank == 0
    assert len(update.layers) == 14
    for layer in (*(result := rounding(llama, llama, RoundToNearest(bits=4))).layers.values(),):
        assert layer == result.total
    assert result.total.kept_share is result.total.noise is result.total.zeroed_share is None
    assert result.total.changed_indices == result.total.changed_scales == 0
    assert result.total.largest_move == 0


def test_the_bfloat16_cast_of_a_model_is_no_update(model):
    """Compared in one dtype; in two dtypes the cast would count as an update, so it is refused."""
    unlearned = copy.deepcopy(model).to(torch.bfloat16)
    with pytest.raises(QuantizerError, match=r"is float32 .* in the target but bfloat16 .* in the"):
        measure_update(model, unlearned)
    target = model.to(torch.bfloat16)
    assert measure_update(target, unlearned).total.norm == 0
    for name in ("rtn-int8", "quanto-int8", "bf16"):
        for layer in rounding(target, unlearned, get_quantizer(name)).layers.values():
            assert layer.kept_share is layer.noise is layer.zeroed_share is None
            assert not layer.changed_indices and not layer.changed_scales


def test_a_target_of_zeros_has_no_relative_norm(llama):
    target, unlearned = with_row(llama, O_PROJ, []), with_row(llama, O_PROJ, [3.0, 4.0])
    update = measure_update(target, unlearned).layers[O_PROJ]
    assert update.norm == 5
    assert update.relative_norm is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_update_against_numpy(model, updated, dtype, monkeypatch):
    monkeypatch.setattr("quantizers.survival.BLOCK_ELEMENTS", 1000)
    model.to(dtype), updated.to(dtype)
    summary = measure_update(model, updated)
    squares = np.zeros(2)
    for name, module in model.named_modules():
        if not isinstance(module, nn.Linear | Conv1D) or name == "lm_head":
            continue
        old = module.weight.detach().double().numpy()
        new = updated.get_submodule(name).weight.detach().double().numpy()
        layer = summary.layers[name]
        singular = np.linalg.svd(new - old, compute_uv=False)
        rank = (singular**2).sum() ** 2 / (singular**4).sum()
        assert layer.parameters == old.size
        assert layer.effective_rank == pytest.approx(rank, rel=1e-4)
        assert layer.norm == pytest.approx(np.linalg.norm(new - old), rel=1e-6)
        assert layer.relative_norm == pytest.approx(layer.norm / np.linalg.norm(old), rel=1e-6)
        squares += [np.square(new - old).sum(), np.square(old).sum()]
    assert summary.total.norm == pytest.approx(math.sqrt(squares[0]), rel=1e-6)
    assert summary.total.relative_norm == pytest.approx(math.sqrt(squares[0] / squares[1]))
    ranks = [layer.effective_rank for layer in summary.layers.values()]
    assert summary.total.effective_rank == pytest.approx(np.mean(ranks))


@pytest.mark.parametrize("group_size", [24, "row", "tensor"])
@pytest.mark.parametrize("bits", [3, 4, 8])
def test_rounding_against_numpy(model, updated, group_size, bits, monkeypatch):
    """In float64 with one loop over groups; the model's float32 may fall otherwise at a tie."""
    monkeypatch.setattr("quantizers.survival.BLOCK_ELEMENTS", 1000)
    quantizer = get_quantizer(f"rtn-int{bits}", group_size=group_size)
    summary = rounding(model, updated, quantizer)
    sums = np.zeros(4)
    changed = count = 0
    for name, module in model.named_modules():
        if not isinstance(module, nn.Linear | Conv1D) or name == "lm_head":
            continue
        weights = [
            (weight.T if isinstance(module, Conv1D) else weight).detach().double().numpy()
            for weight in (module.weight, updated.get_submodule(name).weight)
        ]
        indices, scales = [], []
        for weight in weights:
            size = weight.shape[1] if isinstance(group_size, str) else group_size
            starts = range(0, weight.shape[1], size)
            peaks = np.stack([abs(weight[:, i : i + size]).max(axis=1) for i in starts], axis=1)
            if group_size == "tensor":
                peaks = np.full_like(peaks, peaks.max())
            scale = np.repeat(peaks / 2 ** (bits - 1), size, axis=1)[:, : weight.shape[1]]
            indices.append(np.clip(np.rint(weight / scale), None, 2 ** (bits - 1) - 1))
            scales.append(scale)
        layer = summary.layers[name]
        delta = weights[1] - weights[0]
        moved = indices[1] * scales[1] - indices[0] * scales[0]
        layer_sums = np.array(
            [
                np.square(delta).sum(),
                (moved * delta).sum(),
                np.square(moved - delta).sum(),
                np.square(delta[indices[0] == 0]).sum(),
            ]
        )
        shares = (layer.kept_share, layer.noise**2, layer.zeroed_share)
        assert shares == pytest.approx(
            (layer_sums[1:] / layer_sums[0]).tolist(), rel=1e-2, abs=1e-3
        )
        share = (indices[0] != indices[1]).mean()
        assert layer.changed_indices == pytest.approx(share, abs=2 / delta.size)
        assert layer.largest_move == pytest.approx((abs(delta) / scales[0]).max(), rel=1e-4)
        assert layer.changed_scales == pytest.approx((scales[0] != scales[1]).mean(), abs=0.2)
        sums += layer_sums
        changed += layer.changed_indices * delta.size
        count += delta.size
    total = summary.total
    shares = (total.kept_share, total.noise**2, total.zeroed_share)
    assert shares == pytest.approx((sums[1:] / sums[0]).tolist(), rel=1e-3, abs=1e-4)
    assert total.changed_indices == pytest.approx(changed / count)
    assert total.largest_move == max(layer.largest_move for layer in summary.layers.values())


def test_summaries_as_json(llama, updated_llama):
    update = json.loads(json.dumps(measure_update(llama, updated_llama).to_dict()))
    result = json.loads(json.dumps(rounding(llama, llama, RoundToNearest(bits=4)).to_dict()))
    assert update.keys() == result.keys() == {"total", "kinds", "layers"}
    assert update["kinds"]["up_proj"]["parameters"] == 2 * 96 * 64
    assert result["layers"][O_PROJ] == {
        "kept_share": None,
        "noise": None,
        "zeroed_share": None,
        "changed_indices": 0,
        "changed_scales": 0,
        "largest_move": 0,
    }


@pytest.mark.parametrize("side", [0, 1])
def test_weights_that_are_not_finite_are_refused(llama, side):
    models = [llama, copy.deepcopy(llama)]
    models[side].get_submodule("model.layers.1.mlp.up_proj").weight.data[3, 5] = math.nan
    with pytest.raises(QuantizerError, match=r"'model.layers.1.mlp.up_proj' holds NaN"):
        measure_update(*models)
    with pytest.raises(QuantizerError, match=r"'model.layers.1.mlp.up_proj' holds NaN"):
        measure_rounding(*models, get_quantizer("none"), models[1])


def test_models_that_cannot_be_compared(llama, gpt2):
    with pytest.raises(
        QuantizerError,
        match=r"'model.layers.0.self_attn.q_proj' is float32 64 × 64 in the target "
        r"but missing in the unlearned model; compare",
    ) as caught:
        measure_update(llama, gpt2)
    assert "\n" not in str(caught.value)
    narrow = copy.deepcopy(llama)
    narrow.set_submodule(O_PROJ, nn.Linear(48, 64, bias=False))
    with pytest.raises(QuantizerError, match=r"64 × 64 in the target but float32 64 × 48 in"):
        measure_update(llama, narrow)
    with pytest.raises(QuantizerError, match=r"q_proj' is quantized already"):
        measure_update(llama, get_quantizer("quanto-int8")(copy.deepcopy(llama)))
    with pytest.raises(QuantizerError, match=r"q_proj' is offloaded; load the whole model"):
        measure_update(llama, copy.deepcopy(llama).to("meta"))
