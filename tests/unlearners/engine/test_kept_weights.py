"""Unlearned weights that could not be saved as a model."""

from pathlib import Path

import torch

from unlearners.engine.kept_weights import KEPT, keep_weights, load_kept

from ..tiny_models import tiny_llama


def test_kept_and_read_back(tmp_path: Path) -> None:
    model = tiny_llama()
    wanted = {name: p.clone() for name, p in model.named_parameters()}
    assert keep_weights(model, tmp_path) == tmp_path / KEPT
    for parameter in model.parameters():
        parameter.data.zero_()
    assert load_kept(model, tmp_path) is True
    assert all(torch.equal(p, wanted[name]) for name, p in model.named_parameters())


def test_nothing_kept(tmp_path: Path) -> None:
    model = tiny_llama()
    before = model.lm_head.weight.clone()
    assert load_kept(model, tmp_path) is False
    assert torch.equal(model.lm_head.weight, before)
