"""Training that moves only chosen rows of the weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from transformers import TrainerCallback

from .. import losses
from ..engine.modes import evaluation_mode

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

    from ..data import Windows
    from ..method import Objective


def salient_rows(
    model: PreTrainedModel, forget: Windows, percentile: float
) -> dict[nn.Parameter, torch.Tensor]:
    """The rows to train of every matrix that is trained; vectors are frozen.

    Returns:
        parameter to (rows,) bool; (experts, rows) where one tensor holds several. A LoRA's A has no
        rows of a weight: it is absent, and trained.
    """
    matrices = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and parameter.ndim < 2:
            parameter.requires_grad_(False)
        elif parameter.requires_grad and "lora_A" not in name:
            matrices.append(parameter)
    with evaluation_mode(model):
        for ids in forget.input_ids.split(1):
            losses.token_nll(model(input_ids=ids).logits, ids).backward()
    norms = {p: p.grad.float().norm(dim=-1) for p in matrices if p.grad is not None}
    model.zero_grad()
    every = torch.cat([norm.flatten() for norm in norms.values()])
    threshold = torch.quantile(every, percentile / 100)
    return {parameter: norm > threshold for parameter, norm in norms.items()}


class MaskedRows(TrainerCallback):
    """The objective of a run in which only chosen rows move.

    Args:
        objective: gives the losses.
        rows: parameter to (rows,) or (experts, rows) bool, those that are trained.
    """

    def __init__(self, objective: Objective, rows: dict[nn.Parameter, torch.Tensor]) -> None:
        self.loss = objective.loss
        self._held = {parameter: ~chosen for parameter, chosen in rows.items()}
        self._values: dict[nn.Parameter, torch.Tensor] = {}

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Zero the gradient of held rows, so that the optimizer's momentum stays zero there."""
        for parameter, held in self._held.items():
            if parameter.grad is not None:
                parameter.grad[held] = 0
        # Weight decay moves rows without a gradient, too.
        groups = [g for g in kwargs["optimizer"].param_groups if g.get("weight_decay")]
        decayed = [p for group in groups for p in group["params"] if p in self._held]
        self._values = {p: p.detach()[self._held[p]] for p in decayed}

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Put held rows back that weight decay has moved."""
        with torch.no_grad():
            for parameter, values in self._values.items():
                parameter[self._held[parameter]] = values
        self._values = {}
