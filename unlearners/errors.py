"""Errors of unlearning methods and their training."""

from __future__ import annotations


class UnlearnerError(ValueError):
    """Error in the name, the configuration or the use of an unlearner; the message is one line."""


class DivergedError(RuntimeError):
    """Training reached numbers that are not finite.

    Attributes:
        step: Optimizer step, from 1, with a loss or gradient that is not finite.
        loss: Loss of that step.
    """

    def __init__(self, step: int, loss: float) -> None:
        super().__init__(f"training diverged at step {step}: loss {loss}; lower learning_rate")
        self.step = step
        self.loss = loss
