"""Methods that hook into training: SURE's mask, the task vector's edit, a method with state."""

from dataclasses import dataclass

import pytest
import torch
from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState

from unlearners import (
    UnlearnerError,
    get_unlearner,
    losses,
    register_unlearner,
)
from unlearners.base import Unlearner
from unlearners.data import Windows
from unlearners.engine.dataset import cut_windows
from unlearners.finetuning import FullFinetuning, LoRA
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


def test_sure_with_an_adapter_moves_few_rows_of_the_merged_weights(run) -> None:
    before, after = tiny_llama(), run("sure", tiny_llama(), LoRA(rank=4), max_steps=6)
    weights = [(a, b) for a, b in zip(before.parameters(), after.parameters(), strict=True)]
    changed = torch.cat([(a != b).any(1) for a, b in weights if a.ndim == 2 and len(a) < 300])
    assert 0.09 < changed.float().mean() < 0.11
    assert torch.equal(before.lm_head.weight, after.lm_head.weight)


def test_salient_rows_of_an_adapter_are_rows_of_b(tokenizer, data) -> None:
    adapted = LoRA(rank=4).prepare(tiny_llama(), torch.float32, None)
    rows = salient_rows(adapted, forget_windows(tokenizer, data), percentile=90)
    names = {name for name, parameter in adapted.named_parameters() if parameter in rows}
    assert names == {name for name, _ in adapted.named_parameters() if "lora_B" in name}


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


class Dual(TrainerCallback, ExportableState):
    """A weight of the retain loss that grows by one after every step."""

    def __init__(self) -> None:
        self.weight = 0.0
        self.seen: list[float] = []

    def loss(self, model, batch, reference):
        ids = batch.retain.input_ids
        retain = losses.token_nll(model(input_ids=ids).logits, ids)
        self.seen.append(self.weight)
        return {"loss": self.weight * retain, "retain": retain}

    def on_optimizer_step(self, args, state, control, **kwargs) -> None:
        self.weight += 1

    def state(self):
        return {"args": {}, "attributes": {"weight": self.weight}}

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        if state.global_step:
            self.weight = state.stateful_callbacks["Dual"]["attributes"]["weight"]


def test_a_run_may_have_state_and_an_optimizer_of_its_own(run, tmp_path) -> None:
    """State reaches the loss, and comes back with the checkpoint; SGD has no momentum."""
    objectives = []

    @register_unlearner("dual")
    @dataclass(frozen=True, kw_only=True)
    class DualMethod(Unlearner):
        needs = frozenset({"retain"})

        def begin(self, model, forget):
            objectives.append(Dual())
            return objectives[-1]

        def create_optimizer(self, parameters, training):
            return torch.optim.SGD(parameters, lr=training.learning_rate)

    class Kill(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs) -> None:
            if state.global_step == 3:
                raise KeyboardInterrupt

    first = run("dual", tiny_llama(), max_steps=1)
    assert torch.equal(first.lm_head.weight, tiny_llama().lm_head.weight), "a weight of zero"
    settings = {"max_steps": 5, "save_steps": 2, "output_dir": tmp_path / "dual"}
    with pytest.raises(KeyboardInterrupt):
        run("dual", tiny_llama(), callbacks=[Kill()], **settings)
    run("dual", tiny_llama(), **settings)
    assert [objective.seen for objective in objectives] == [[0], [0, 1, 2], [2, 3, 4]]


def test_weight_decay_spares_vectors(run) -> None:
    """A loss without a gradient leaves decay alone: matrices shrink by lr * decay, norms do not."""

    @register_unlearner("no_gradient")
    class NoGradient(Unlearner):
        def loss(self, model, batch, reference):
            return {"loss": 0 * model(input_ids=batch.forget.input_ids).logits.sum()}

    before = tiny_llama()
    after = run("no_gradient", tiny_llama(), max_steps=1, learning_rate=0.1, weight_decay=0.5)
    torch.testing.assert_close(after.lm_head.weight, before.lm_head.weight * 0.95)
    assert torch.equal(after.model.norm.weight, before.model.norm.weight)


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("ga", {"retain_weight": 2}, "retain_weight=2.0 has no effect without a retain loss"),
        ("ga_gdr", {"retain_weight": -1}, "retain_weight=-1.0: expected"),
        ("npo", {"beta": 0}, "beta=0.0: expected"),
        ("simnpo", {"beta": 0}, "beta=0.0: expected"),
        ("task_vector", {"alpha": 0}, "alpha=0.0: expected"),
        ("sure", {"percentile": 100}, "percentile=100.0: expected"),
        ("sure", {"beta": -1}, "beta=-1.0: expected"),
    ],
)
def test_parameters_out_of_range_are_named(name, params, message) -> None:
    with pytest.raises(UnlearnerError, match=f"unlearner '{name}': {message}"):
        get_unlearner(name, **params)
