"""What a model computes after its backbone, as it was before training."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any
from typing import cast as typed

import torch
from torch import nn
from transformers.utils import ModelOutput

from .base import UnlearnerError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class FrozenHead:
    """A copy of a model with stored final hidden states in place of its backbone.

    It holds what is left: the output head and whatever is done before or after it, as Gemma 2 caps
    its logits and Granite scales them.

    Args:
        model: in evaluation mode, no gradient required here.
        window: (1, T) int64, to try it on.

    Raises:
        UnlearnerError: the copy does not compute the model's logits exactly.
    """

    def __init__(self, model: PreTrainedModel, window: torch.Tensor) -> None:
        self._model = model
        self._stored = _Stored()
        parts = [model.base_model, model.get_decoder()]
        for self._backbone in (part for part in parts if part is not model):
            memo: dict[int, Any] = {
                id(self._backbone): self._stored,
                id(model.config): model.config,
            }
            self._rest = copy.deepcopy(model, memo).requires_grad_(False).eval()
            try:
                logits, hidden = self._run(window)
                if torch.equal(self.logits(window, hidden), logits):
                    return
            except (AttributeError, IndexError, TypeError, ValueError, RuntimeError):
                continue
        raise UnlearnerError(
            f"{type(model).__name__} does not compute its logits from the final hidden states of "
            "its backbone alone: KL to the reference is not possible with full finetuning; use "
            "LoRA or a method without KL"
        )

    def hidden_states(self, ids: torch.Tensor) -> torch.Tensor:
        """Final hidden states of the model itself: (B, T) int64 to (B, T, D)."""
        return self._run(ids)[1]

    def logits(self, ids: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        """Logits of the frozen copy: (B, T) int64 and (B, T, D) to (B, T, V)."""
        self._stored.hidden = hidden
        return self._rest(input_ids=ids).logits

    def _run(self, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        outputs: list[ModelOutput] = []
        hook = typed(nn.Module, self._backbone).register_forward_hook(
            lambda _, args, output: outputs.append(output)
        )
        try:
            logits = self._model(input_ids=ids).logits
        finally:
            hook.remove()
        (output,) = outputs  # ValueError where the model goes past it
        self._stored.kind = type(output)
        return logits, output["last_hidden_state"]


class _Stored(nn.Module):
    """Stands in for a backbone."""

    hidden: torch.Tensor
    kind: type[ModelOutput]

    def forward(self, *args: Any, **kwargs: Any) -> ModelOutput:
        return self.kind(last_hidden_state=self.hidden)
