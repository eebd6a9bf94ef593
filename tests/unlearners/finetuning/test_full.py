"""Finetuning of all weights: dtypes, saved originals, and edits."""

import torch
from safetensors.torch import load_file, save_file

from unlearners.finetuning import FullFinetuning
from unlearners.weights import dtypes

from ..tiny_models import tiny_gpt2, tiny_llama


def test_all_weights_are_trained_in_the_dtype_given(tmp_path) -> None:
    """Originals are those of the model in its own dtype, a tied head once."""
    model = tiny_gpt2(torch.bfloat16)
    before = {name: value.clone() for name, value in model.named_parameters()}
    prepared = FullFinetuning().prepare(model, torch.float32, tmp_path / "originals")
    assert prepared is model
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert all(parameter.requires_grad for parameter in model.parameters())
    saved = load_file(tmp_path / "originals")
    assert saved.keys() == before.keys()
    assert all(torch.equal(saved[name], value) for name, value in before.items())


def test_frozen_weights_stay_frozen_but_get_the_dtype() -> None:
    model = tiny_llama(torch.bfloat16)
    model.model.norm.weight.requires_grad_(False)
    FullFinetuning().prepare(model, torch.float32, None)
    frozen = [name for name, value in model.named_parameters() if not value.requires_grad]
    assert frozen == ["model.norm.weight"]
    assert model.model.norm.weight.dtype == torch.float32


def test_originals_of_an_interrupted_run_are_kept(tmp_path) -> None:
    path = tmp_path / "originals"
    save_file({"lm_head.weight": torch.full((300, 32), 3.0)}, path)
    FullFinetuning().prepare(tiny_llama(), torch.float32, path)
    assert load_file(path)["lm_head.weight"].unique().tolist() == [3]


def test_weights_are_edited_and_cast_back(tmp_path) -> None:
    """Original 1 and trained 3 become 1 - (3 - 1) = -1; without originals they stay 3."""
    for originals, expected in ((tmp_path / "originals", -1), (None, 3)):
        model = tiny_llama(torch.bfloat16)
        with torch.no_grad():
            model.lm_head.weight.fill_(1)
        before = dtypes(model)
        FullFinetuning().prepare(model, torch.float32, originals)
        with torch.no_grad():
            model.lm_head.weight.fill_(3)
        done = FullFinetuning().finish(model, before, originals, lambda old, new: 2 * old - new)
        assert done is model
        assert dtypes(model) == before
        assert model.lm_head.weight.unique().tolist() == [expected]
