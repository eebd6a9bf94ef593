"""Rows that are selected by their gradient, and rows that are held."""

import pytest
import torch

from unlearners import LoRA, Windows, losses
from unlearners.engine.dataset import cut_windows
from unlearners.methods._row_mask import salient_rows

from ..tiny_models import WINDOW, tiny_gpt2, tiny_llama


def forget_windows(tokenizer, data) -> Windows:
    ids = cut_windows(tokenizer, data.forget, WINDOW)
    return Windows(ids, torch.arange(len(ids)), "forget")


def test_salient_rows_are_those_of_the_largest_forget_gradient(tokenizer, data) -> None:
    """Against one backward pass over all windows; a fifth of all rows at percentile 80."""
    model, again = tiny_llama(), tiny_llama()
    forget = forget_windows(tokenizer, data)
    rows = salient_rows(model, forget, percentile=80)

    losses.token_nll(again(input_ids=forget.input_ids).logits, forget.input_ids).backward()
    norms = {n: p.grad.norm(dim=1) for n, p in again.named_parameters() if p.ndim == 2}
    ranked = torch.cat(list(norms.values())).sort(descending=True).values
    assert {name for name, p in model.named_parameters() if p in rows} == set(norms)
    for name, parameter in model.named_parameters():
        assert parameter.grad is None
        if name in norms:
            assert torch.equal(rows[parameter], norms[name] > ranked[len(ranked) // 5 + 1])
        else:
            assert not parameter.requires_grad


@pytest.mark.parametrize("make_model", [tiny_llama, tiny_gpt2])
@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
def test_sure_holds_all_rows_outside_its_mask(
    make_model, weight_decay, run, tokenizer, data
) -> None:
    """Six steps with momentum, clipping and weight decay: held rows and vectors keep their bits."""
    before = make_model()
    rows = salient_rows(before, forget_windows(tokenizer, data), percentile=80)
    after = run(
        "sure",
        make_model(),
        params={"percentile": 80},
        weight_decay=weight_decay,
        learning_rate=1e-2,
        max_steps=6,
    )
    moved = 0
    for one, other in zip(before.parameters(), after.parameters(), strict=True):
        if one not in rows:
            assert torch.equal(one, other)
            continue
        chosen = rows[one]
        assert torch.equal(one[~chosen], other[~chosen])
        moved += (one[chosen] != other[chosen]).any(1).sum()
    assert moved == sum(chosen.sum() for chosen in rows.values())


def test_salient_rows_of_an_adapter_are_rows_of_b(tokenizer, data) -> None:
    adapted = LoRA(rank=4).prepare(tiny_llama(), torch.float32, None)
    rows = salient_rows(adapted, forget_windows(tokenizer, data), percentile=90)
    names = {name for name, parameter in adapted.named_parameters() if parameter in rows}
    assert names == {name for name, _ in adapted.named_parameters() if "lora_B" in name}
