"""Copy of the part of a model after its backbone, before training."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from ..errors import UnlearnerError

FINAL = "last_hidden_state"


class FrozenHead:
    """Copy of a model with stored final hidden states in place of its backbone.

    It contains the output head and all other operations on the hidden states or logits: Gemma 2
    caps its logits, Granite scales them.

    Args:
        model: Model in evaluation mode, under ``torch.no_grad``.
        window: (1, T) int64, window for a trial.

    Raises:
        UnlearnerError: The copy does not compute the model's logits exactly.
    """

    def __init__(self, model: PreTrainedModel, window: torch.Tensor) -> None:
        self._model = model
        for whole, backbone, kind in _backbones(model, window):
            self._backbone, self._stored = backbone, _Stored(backbone, kind)
            # Frozen parameters are shared with the model.
            memo: dict[int, Any] = {id(p): p for p in whole.parameters() if not p.requires_grad}
            memo |= {id(backbone): self._stored, id(model.config): model.config}
            self._rest = copy.deepcopy(whole, memo).requires_grad_(False).eval()
            logits, hidden = self._run(window)
            try:
                if torch.equal(self.logits(window, hidden), logits):
                    return
            # This part needs more of the backbone than its outputs.
            except (AttributeError, LookupError, RuntimeError, TypeError, ValueError):
                continue
        raise UnlearnerError(
            f"{type(model).__name__} does not compute its logits from the final hidden states of "
            "its backbone alone: KL to the reference is not possible with full finetuning; use "
            "LoRA or a method without KL"
        )

    def hidden_states(self, ids: torch.Tensor) -> torch.Tensor:
        """Compute final hidden states of the model itself, (B, T, D), for ids (B, T) int64."""
        return self._run(ids)[1]

    def logits(self, ids: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        """Compute logits of the frozen copy.

        Args:
            ids: (B, T) int64.
            hidden: (B, T, D), final hidden states of theta_ref.

        Returns:
            (B, T, V).
        """
        self._stored.hidden = hidden
        return self._rest(input_ids=ids).logits

    def _run(self, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        outputs: list[ModelOutput] = []
        hook = self._backbone.register_forward_hook(lambda _, args, out: outputs.append(out))
        try:
            logits = self._model(input_ids=ids).logits
        finally:
            hook.remove()
        return logits, outputs[-1][FINAL]


class _Stored(nn.Module):
    """Replacement of a backbone, with the numbers among its attributes."""

    hidden: torch.Tensor

    def __init__(self, backbone: nn.Module, kind: type[ModelOutput]) -> None:
        super().__init__()
        self._kind = kind
        for name, value in vars(backbone).items():
            if isinstance(value, int | float) and name not in vars(self):
                setattr(self, name, value)

    def forward(self, *args: Any, **kwargs: Any) -> ModelOutput:
        return self._kind(last_hidden_state=self.hidden)


def _backbones(
    model: PreTrainedModel, window: torch.Tensor
) -> Iterator[tuple[PreTrainedModel, nn.Module, type[ModelOutput]]]:
    """Yield (model, backbone, class of the backbone's outputs) for all possible backbones.

    A backbone is a module that returns final hidden states; a model contains it. The outermost
    backbone is first: in a multimodal model that is the one with all towers.
    """
    backbones: list[tuple[nn.Module, type[ModelOutput]]] = []

    def record(module: nn.Module, args: Any, output: Any) -> None:
        if isinstance(output, ModelOutput) and FINAL in output:
            backbones.append((module, type(output)))

    hooks: list[RemovableHandle] = [m.register_forward_hook(record) for m in model.modules()]
    try:
        model(input_ids=window)
    finally:
        for hook in hooks:
            hook.remove()
    models = [module for module in model.modules() if isinstance(module, PreTrainedModel)]
    for backbone, kind in reversed(backbones):
        for whole in models:
            if whole is not backbone and any(part is backbone for part in whole.modules()):
                yield whole, backbone, kind
