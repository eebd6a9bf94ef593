"""Errors of unlearning methods and their training."""

from __future__ import annotations


class UnlearnerError(ValueError):
    """An unlearner was named, configured or used wrongly; the message is one line for the user."""


class DivergedError(RuntimeError):
    """Training reached numbers that are not finite.

    Attributes:
        step: optimizer step (from 1) whose loss or gradient was not finite.
        loss: its loss.
    """

    def __init__(self, step: int, loss: float) -> None:
        super().__init__(f"training diverged at step {step}: loss {loss}; lower learning_rate")
        self.step = step
        self.loss = loss
