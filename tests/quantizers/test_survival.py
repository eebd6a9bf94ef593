"""What survives, against numbers worked by hand and a reference that loops."""

import copy
import json
import math

import numpy as np
import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from quantizers import QuantizerError, get_quantizer
from quantizers.rtn import RoundToNearest
from quantizers.survival import survival

INT4 = {"rtn-int4": RoundToNearest(bits=4)}


def set_weight(model, name, values):
    with torch.no_grad():
        model.get_parameter(name).copy_(torch.as_tensor(values))


@pytest.fixture
def updated(model):
    """The model after an update of every weight."""
    changed = copy.deepcopy(model)
    torch.manual_seed(7)
    with torch.no_grad():
        for parameter in changed.parameters():
            parameter.add_(0.003 * torch.randn_like(parameter))
    return changed


def test_by_hand(llama):
    """One row of o_proj: 8, 1, 2, 0, 0 … becomes 8, 1.4, 2.6, 0.3, 0 …, everything else stays.

    s = 8/8 = 1 before and after; indices 7, 1, 2, 0 become 7, 1, 3, 0: one of 64 · 64 changes.
    ΔW = (0.4, 0.6, 0.3): ‖ΔW‖² = 0.61, ‖W0‖² = 69, largest move 0.6 steps. ΔW has rank 1.
    """
    name = "model.layers.0.self_attn.o_proj"
    before, after = torch.zeros(64, 64), torch.zeros(64, 64)
    before[5, :3] = torch.tensor([8.0, 1.0, 2.0])
    after[5, :4] = torch.tensor([8.0, 1.4, 2.6, 0.3])
    set_weight(llama, f"{name}.weight", before)
    unlearned = copy.deepcopy(llama)
    set_weight(unlearned, f"{name}.weight", after)
    report = survival(llama, unlearned, INT4)
    layer = report.layers[name]
    assert layer.parameters == 64 * 64
    assert layer.norm == pytest.approx(math.sqrt(0.61), rel=1e-6)
    assert layer.relative_norm == pytest.approx(math.sqrt(0.61 / 69), rel=1e-6)
    assert layer.effective_rank == pytest.approx(1)
    crossing = layer.crossings["rtn-int4"]
    assert crossing.changed_indices == 1 / 4096
    assert crossing.changed_scales == 0
    assert crossing.largest_move == pytest.approx(0.6, rel=1e-6)
    assert report.kinds["o_proj"].crossings["rtn-int4"].changed_indices == 1 / 8192
    assert report.kinds["up_proj"].norm == 0
    assert report.total.crossings["rtn-int4"].changed_indices * report.total.parameters == 1
    assert report.total.norm == layer.norm


def test_a_scale_moves_indices_of_weights_that_stay(llama):
    """8, 1 becomes 16, 1: s from 1 to 2, and the index of the weight 1 from 1 to round(0.5) = 0."""
    name = "model.layers.0.self_attn.o_proj"
    before = torch.zeros(64, 64)
    before[0, :2] = torch.tensor([8.0, 1.0])
    after = before.clone()
    after[0, 0] = 16
    set_weight(llama, f"{name}.weight", before)
    unlearned = copy.deepcopy(llama)
    set_weight(unlearned, f"{name}.weight", after)
    crossing = survival(llama, unlearned, INT4).layers[name].crossings["rtn-int4"]
    assert crossing.changed_indices == 1 / 4096
    assert crossing.changed_scales == 1 / 64
    assert crossing.largest_move == 8


def test_no_update(llama):
    report = survival(llama, copy.deepcopy(llama), INT4)
    assert report.total.norm == report.total.relative_norm == report.total.effective_rank == 0
    assert set(vars(report.total.crossings["rtn-int4"]).values()) == {0}
    assert len(report.layers) == 14


@pytest.mark.parametrize("group_size", [24, "row", "tensor"])
@pytest.mark.parametrize("bits", [3, 8])
def test_against_a_reference(model, updated, group_size, bits, monkeypatch):
    monkeypatch.setattr("quantizers.survival.BLOCK_ELEMENTS", 1000)
    quantizer = RoundToNearest(bits=bits, group_size=group_size)
    report = survival(model, updated, {"grid": quantizer})
    changed = count = 0
    for name, module in model.named_modules():
        if not isinstance(module, nn.Linear | Conv1D) or name == "lm_head":
            continue
        old = module.weight.detach().double().numpy()
        new = updated.get_submodule(name).weight.detach().double().numpy()
        layer = report.layers[name]
        singular = np.linalg.svd(new - old, compute_uv=False)
        rank = (singular**2).sum() ** 2 / (singular**4).sum()
        assert layer.effective_rank == pytest.approx(rank, rel=1e-3)
        assert layer.norm == pytest.approx(np.linalg.norm(new - old), rel=1e-5)
        assert layer.relative_norm == pytest.approx(layer.norm / np.linalg.norm(old), rel=1e-5)
        if isinstance(module, Conv1D):
            old, new = old.T, new.T
        indices, scales = [], []
        for weight in (old, new):
            size = weight.shape[1] if isinstance(group_size, str) else group_size
            starts = range(0, weight.shape[1], size)
            peaks = np.stack([abs(weight[:, i : i + size]).max(axis=1) for i in starts], axis=1)
            if group_size == "tensor":
                peaks = np.full_like(peaks, peaks.max())
            scale = np.repeat(peaks / 2 ** (bits - 1), size, axis=1)[:, : weight.shape[1]]
            indices.append(np.clip(np.rint(weight / scale), None, 2 ** (bits - 1) - 1))
            scales.append(scale)
        crossing = layer.crossings["grid"]
        share = (indices[0] != indices[1]).mean()
        assert crossing.changed_indices == pytest.approx(share, abs=2 / old.size)
        assert crossing.largest_move == pytest.approx((abs(new - old) / scales[0]).max(), rel=1e-4)
        assert crossing.changed_scales == pytest.approx((scales[0] != scales[1]).mean(), abs=0.2)
        changed += crossing.changed_indices * old.size
        count += old.size
    assert report.total.parameters == count
    assert report.total.crossings["grid"].changed_indices == pytest.approx(changed / count)


def test_folders_equal_models(model, updated, tmp_path):
    quantizers = {name: get_quantizer(name) for name in ("rtn-int8", "rtn-int4")}
    model.save_pretrained(tmp_path / "target")
    updated.save_pretrained(tmp_path / "unlearned", max_shard_size="50KB")
    assert len(list((tmp_path / "unlearned").glob("*.safetensors"))) > 1
    report = survival(tmp_path / "target", str(tmp_path / "unlearned"), quantizers)
    assert report == survival(model, updated, quantizers)
    assert json.loads(json.dumps(report.to_dict()))["total"]["parameters"] > 0


def test_a_folder_of_the_bare_base_model(gpt2, tmp_path):
    gpt2.save_pretrained(tmp_path / "whole")
    gpt2.transformer.save_pretrained(tmp_path / "base")
    assert survival(tmp_path / "whole", tmp_path / "base", INT4).total.norm == 0


def test_memory_stays_below_two_of_the_largest_tensors(llama, tmp_path, peak_memory, monkeypatch):
    """With blocks as small beside these layers as a million weights are beside real ones."""
    monkeypatch.setattr("quantizers.survival.BLOCK_ELEMENTS", 256)
    llama.save_pretrained(tmp_path)
    with peak_memory:
        survival(tmp_path, tmp_path, INT4)
    assert 0 < peak_memory.peak < 2 * 300 * 64 * 4


@pytest.mark.parametrize(
    ("quantizers", "message"),
    [
        ({}, "at least one quantizer"),
        ({"a": RoundToNearest(bits=4), "b": RoundToNearest(bits=4, skip=("*",))}, "got a, b"),
    ],
)
def test_quantizers_must_agree(llama, quantizers, message):
    with pytest.raises(QuantizerError, match=message):
        survival(llama, llama, quantizers)


def test_what_cannot_be_compared(llama, gpt2, tmp_path):
    with pytest.raises(QuantizerError, match=r"no 'model.layers.0.self_attn.q_proj.weight' of sha"):
        survival(llama, gpt2, INT4)
    with pytest.raises(QuantizerError, match=r"is no model folder: it has no config.json"):
        survival(tmp_path, llama, INT4)
    with pytest.raises(QuantizerError, match="holds no safetensors"):
        survival(llama, tmp_path, INT4)
    broken = copy.deepcopy(llama)
    set_weight(broken, "model.layers.0.mlp.up_proj.weight", torch.full((96, 64), torch.nan))
    with pytest.raises(QuantizerError, match=r"'model.layers.0.mlp.up_proj' holds NaN"):
        survival(llama, broken, INT4)
