"""Quantities of theta_ref, the model before unlearning, for a method's loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .data import Side, Windows
from .errors import UnlearnerError

if TYPE_CHECKING:
    import torch


class Reference:
    """Quantities of theta_ref for the loss; a method declares each one in its ``needs``.

    Args:
        log_probs: (N,) float32, log P_ref of every forget window in nats; None if not needed.
        logits: Function from retain windows to logits of theta_ref (B, T, V); None if not needed.
    """

    def __init__(
        self,
        log_probs: torch.Tensor | None = None,
        logits: Callable[[Windows], torch.Tensor] | None = None,
    ) -> None:
        self._log_probs = log_probs
        self._logits = logits

    def log_probs(self, windows: Windows) -> torch.Tensor:
        """Return log P_ref of whole forget windows, (B,) float32, in nats.

        Raises:
            UnlearnerError: These are retain windows, or ``needs`` does not declare the quantity.
        """
        _require_side(windows, "forget", "log_probs")
        if self._log_probs is None:
            raise UnlearnerError("the loss reads log P_ref: declare 'forget_log_probs' in needs")
        return self._log_probs[windows.index]

    def logits(self, windows: Windows) -> torch.Tensor:
        """Compute the logits of theta_ref on retain windows, (B, T, V) in the model's dtype.

        Raises:
            UnlearnerError: These are forget windows, or ``needs`` does not declare the quantity.
        """
        _require_side(windows, "retain", "logits")
        if self._logits is None:
            raise UnlearnerError(
                "the loss reads reference logits: declare 'retain_logits' in needs"
            )
        return self._logits(windows)


def _require_side(windows: Windows, side: Side, quantity: str) -> None:
    if windows.side != side:
        raise UnlearnerError(
            f"reference.{quantity} is for {side} windows only, the loss passes {windows.side} "
            f"windows: pass batch.{side}"
        )
