"""Task vector: its loss and its edit by hand, and whole runs."""

import math
from dataclasses import dataclass

import pytest
import torch

from unlearners import (
    FullFinetuning,
    LoRA,
    Unlearner,
    UnlearnerError,
    get_unlearner,
    losses,
    register_unlearner,
)
from unlearners.engine.dataset import cut_windows

from ..tiny_models import WINDOW, tiny_llama


def test_loss_by_hand(model, batch, reference) -> None:
    """The NLL of the forget window: 3/2 log 2 per token."""
    terms = get_unlearner("task_vector").loss(model, batch, reference)
    assert terms["loss"].item() == pytest.approx(1.5 * math.log(2))


def test_edit_by_hand() -> None:
    """A weight that training moves from 1 to 1.5 ends at 1 - 5 * 0.5 = -1.5."""
    edit = get_unlearner("task_vector").edit
    assert edit(torch.tensor([1.0, 2.0]), torch.tensor([1.5, 2.0])).tolist() == [-1.5, 2.0]


def test_parameters_out_of_range_are_named() -> None:
    with pytest.raises(UnlearnerError, match="'task_vector': alpha=0: Input should be greater"):
        get_unlearner("task_vector", alpha=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_task_vector_goes_the_other_way(dtype, run) -> None:
    """Theta - 3 (theta_overfit - theta), theta_overfit from the same training without an edit."""

    @dataclass(frozen=True, kw_only=True)
    class Overfit(Unlearner):
        def loss(self, model, batch, reference):
            return get_unlearner("task_vector").loss(model, batch, reference)

    name = f"overfit_{str(dtype)[-2:]}"
    register_unlearner(name)(Overfit)
    training = {"learning_rate": 1e-2, "max_steps": 4}
    target = tiny_llama(dtype)
    overfit = run(name, tiny_llama(torch.float32).to(dtype).float(), **training)
    negated = run("task_vector", tiny_llama(dtype), params={"alpha": 3}, **training)
    for one, high, low in zip(
        target.parameters(), overfit.parameters(), negated.parameters(), strict=True
    ):
        expected = one.float() - 3 * (high - one.float())
        tolerance = {"atol": 1e-6, "rtol": 1e-6 if dtype == torch.float32 else 2**-8}
        torch.testing.assert_close(low.float(), expected, **tolerance)
        assert low.dtype == dtype


def test_task_vector_forgets(run, tokenizer, data) -> None:
    ids = cut_windows(tokenizer, data.forget, WINDOW)

    def forget_nll(model) -> float:
        with torch.no_grad():
            return losses.token_nll(model(input_ids=ids).logits, ids).item()

    for finetuning in (FullFinetuning(), LoRA(rank=4, dropout=0)):
        model = run("task_vector", tiny_llama(), finetuning, learning_rate=1e-3, max_steps=10)
        assert forget_nll(model) > forget_nll(tiny_llama()) + 0.1
