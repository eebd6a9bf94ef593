"""Survival of an update, as the report of a run has it."""

import copy
from typing import Any

import pytest
import torch

from leaderboard.evaluation.survival import SurvivalMeter, at_precision
from leaderboard.models.folders import load_model
from quantizers import get_quantizer


def test_doubled_weights_are_kept_and_change_no_index(small_world: Any) -> None:
    """At 2 bits noise changes few indices; doubled weights have doubled scales."""
    target, _ = load_model(str(small_world.target), device="cpu")
    quantizer = get_quantizer("rtn-int2")
    shares = []
    for change in ("noise", "scale"):
        model, _ = load_model(str(small_world.target), device="cpu")
        torch.manual_seed(0)
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if "proj" in name:
                    noise = 1e-4 * torch.randn_like(weight)
                    weight.copy_(weight + noise if change == "noise" else 2 * weight)
        meter = SurvivalMeter(target, model, "stem")
        quantized = quantizer(copy.deepcopy(model))
        report = meter.measure("rtn-int2", quantizer, quantized)
        record = at_precision(report, "rtn-int2")
        assert report.checkpoint == "stem"
        assert record.rounding is not None and record.rounding == report.total.rounding["rtn-int2"]
        shares.append(record.rounding.changed_indices)
    assert shares[1] == 0.0 < shares[0] < 0.05
    assert record.rounding.kept_share == pytest.approx(0.9, abs=0.1)
    assert record.update.relative_norm == pytest.approx(1)


def test_precision_that_rounds_nothing_has_an_update_alone(small_world: Any) -> None:
    target, _ = load_model(str(small_world.target), device="cpu")
    model, _ = load_model(str(small_world.retrain), device="cpu")
    report = SurvivalMeter(target, model, "stem").measure("none", get_quantizer("none"), model)
    assert report.total.rounding == {}
    assert at_precision(report, "none").update.norm > 0
