"""What every registered method keeps, built in or not."""

import json

import pytest
import torch
from peft import PeftModel

from unlearners import get_unlearner, list_unlearners
from unlearners.finetuning import FullFinetuning, LoRA

from .tiny_models import tiny_llama

METHODS = sorted(list_unlearners())


@pytest.mark.parametrize("name", METHODS)
def test_configuration_survives_json(name) -> None:
    unlearner = get_unlearner(name)
    params = json.loads(json.dumps(unlearner.to_dict()))
    assert get_unlearner(name, **params) == unlearner
    assert hash(unlearner) == hash(get_unlearner(name))
    assert type(unlearner).__doc__


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("finetuning", [FullFinetuning(), LoRA(rank=2)], ids=lambda f: f.name)
@pytest.mark.parametrize("name", METHODS)
def test_a_run(name, finetuning, dtype, run, monkeypatch) -> None:
    """The weights change and stay finite; an adapter's base does not change before the merge."""
    model, before = (tiny_llama(getattr(torch, dtype)) for _ in range(2))
    bases = []
    finish = LoRA.finish

    def spy(self, trained: PeftModel, *args):
        base = trained.get_base_model().named_parameters()
        bases.append({n.replace(".base_layer", ""): p.clone() for n, p in base})
        return finish(self, trained, *args)

    monkeypatch.setattr(LoRA, "finish", spy)
    unlearned = run(name, model, finetuning, learning_rate=1e-2, max_steps=2, weights_dtype=dtype)

    changed = {
        key: not torch.equal(one, other)
        for (key, one), other in zip(before.named_parameters(), unlearned.parameters(), strict=True)
    }
    assert any(changed.values())
    assert unlearned.dtype == getattr(torch, dtype)
    assert all(parameter.isfinite().all() for parameter in unlearned.parameters())
    if finetuning.name == "lora":
        assert not changed["lm_head.weight"] and not changed["model.embed_tokens.weight"]
        (base,) = bases
        for key, parameter in before.named_parameters():
            assert torch.equal(base[key], parameter), key
