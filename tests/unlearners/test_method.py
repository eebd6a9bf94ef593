"""Hooks of a method into training: state of a run, optimizer, weight decay."""

from dataclasses import dataclass

import pytest
import torch
from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState

from unlearners import Unlearner, losses, register_unlearner

from .tiny_models import tiny_llama


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
