"""The frozen copy of a model after its backbone."""

import pytest
import torch

from unlearners import UnlearnerError
from unlearners.engine.frozen_head import FrozenHead
from unlearners.finetuning import FullFinetuning

from ..tiny_models import architecture, tiny_gemma2, tiny_gpt2, tiny_llama


def test_kl_with_logits_from_elsewhere_is_refused(run, tmp_path) -> None:
    """ProphetNet's logits are not those of its last hidden states."""
    with pytest.raises(UnlearnerError, match=r"does not compute its logits from .* use LoRA or"):
        run("npo_klr", architecture("prophetnet"), FullFinetuning(), output_dir=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


@torch.no_grad()
@pytest.mark.parametrize("make_model", [tiny_llama, tiny_gpt2, tiny_gemma2])
def test_logits_stay_those_of_the_model_as_it_was(make_model) -> None:
    """The copy of a trained head keeps its values; hidden states are those of the model now."""
    model = make_model()
    ids = torch.tensor([[5, 6, 7, 8], [9, 3, 2, 1]])
    head = FrozenHead(model, ids[:1])
    before, hidden = model(input_ids=ids).logits, head.hidden_states(ids)
    for parameter in model.parameters():
        parameter.mul_(1.5)
    assert torch.equal(head.logits(ids, hidden), before)
    assert not torch.equal(model(input_ids=ids).logits, before)
    assert not torch.equal(head.hidden_states(ids), hidden)


@torch.no_grad()
def test_frozen_weights_are_shared() -> None:
    """A head without a gradient is not copied; one with a gradient is."""
    model = tiny_llama()
    model.lm_head.requires_grad_(False)
    ids = torch.tensor([[5, 6, 7, 8]])
    head = FrozenHead(model, ids)
    assert head._rest.lm_head.weight is model.lm_head.weight
    model.lm_head.requires_grad_(True)
    copied = FrozenHead(model, ids)._rest
    assert copied.lm_head.weight is not model.lm_head.weight
    assert not copied.lm_head.weight.requires_grad
    assert sum(parameter.numel() for parameter in copied.parameters()) == 300 * 32
