"""Operations on a model's own weights."""

from pathlib import Path

import torch

from unlearners import weights

from .tiny_models import tiny_llama


def test_cast_there_and_back_keeps_bfloat16_values() -> None:
    model = tiny_llama()
    model.to(torch.bfloat16)
    before = {name: p.clone() for name, p in model.named_parameters()}
    dtypes = weights.dtypes(model)
    weights.make_trainable(model, torch.float32)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    weights.cast(model, dtypes)
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())


def test_frozen_weights_stay_frozen_unless_all_are() -> None:
    model = tiny_llama()
    model.model.embed_tokens.requires_grad_(False)
    assert "model.embed_tokens.weight" not in dict(weights.trained_parameters(model))
    model.requires_grad_(False)
    assert "model.embed_tokens.weight" in dict(weights.trained_parameters(model))


def test_edit_by_hand(tmp_path: Path) -> None:
    """Twice the original minus the trained value: 2 · 1 − 3 = −1, for the one weight kept."""
    model = tiny_llama()
    norm = model.model.norm.weight
    norm.data.fill_(1)
    weights.save_parameters([("model.norm.weight", norm)], tmp_path / "originals.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["originals.safetensors"]
    norm.data.fill_(3)
    other = model.lm_head.weight.clone()
    weights.edit_parameters(
        model, tmp_path / "originals.safetensors", lambda original, trained: 2 * original - trained
    )
    assert torch.equal(model.model.norm.weight, torch.full_like(norm, -1))
    assert torch.equal(model.lm_head.weight, other)
