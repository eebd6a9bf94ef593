"""Training of selected rows of the weights only."""

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
    """Select the rows with the largest gradient norms of the forget set's NLL.

    Vectors are frozen. The matrices A of a LoRA adapter have no rows of a weight: they are trained
    and not in the result.

    Args:
        model: Model in training, with the weights of the target.
        forget: All forget windows.
        percentile: Percentile of the norms of all rows above which a row is selected.

    Returns:
        Mask by parameter: (rows,) bool, or (experts, rows) for a tensor of several experts.
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
    all_norms = torch.cat([norm.flatten() for norm in norms.values()])
    threshold = torch.quantile(all_norms, percentile / 100)
    return {parameter: norm > threshold for parameter, norm in norms.items()}


class MaskedRows(TrainerCallback):
    """Objective of a run in which only selected rows are trained.

    Args:
        objective: Object with the loss of the run.
        rows: Mask of the trained rows by parameter, (rows,) or (experts, rows) bool.
    """

    def __init__(self, objective: Objective, rows: dict[nn.Parameter, torch.Tensor]) -> None:
        self.loss = objective.loss
        self._held = {parameter: ~trained for parameter, trained in rows.items()}
        self._values: dict[nn.Parameter, torch.Tensor] = {}

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Zero the gradient of held rows, so that the optimizer's momentum stays zero there."""
        for parameter, held in self._held.items():
            if parameter.grad is not None:
                parameter.grad[held] = 0
        # Weight decay changes rows without a gradient too.
        groups = [g for g in kwargs["optimizer"].param_groups if g.get("weight_decay")]
        decayed = [p for group in groups for p in group["params"] if p in self._held]
        self._values = {p: p.detach()[self._held[p]] for p in decayed}

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Restore held rows that weight decay has changed."""
        with torch.no_grad():
            for parameter, values in self._values.items():
                parameter[self._held[parameter]] = values
        self._values = {}
