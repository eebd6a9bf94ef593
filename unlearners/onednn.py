"""Float32 linear layers on a CPU through oneDNN.

PyTorch's x86 builds hand float32 matrix products to MKL, which leaves the AVX-512 units of AMD
processors idle; oneDNN, in the same builds, uses them. Sums are rounded in another order.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable


def is_available() -> bool:
    """True where this build of PyTorch has oneDNN's linear layer."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def _product(
    rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor:
    return torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, states: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
    ) -> torch.Tensor:
        ctx.save_for_backward(states, weight)
        return _product(states, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        states, weight = ctx.saved_tensors
        of_states, of_weight, of_bias = ctx.needs_input_grad
        rows = gradient.reshape(-1, gradient.shape[-1])
        columns = states.reshape(-1, states.shape[-1]).t()
        return (
            _product(gradient, weight.t()) if of_states else None,
            _product(columns, rows.t()).t() if of_weight else None,
            rows.sum(0) if of_bias else None,
        )


class OneDnnLinear(nn.Linear):
    """``nn.Linear`` whose float32 products on a CPU are oneDNN's."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """[..., in_features] to [..., out_features]."""
        plain = (
            input.dtype == self.weight.dtype == torch.float32
            and type(self.weight) is nn.Parameter  # not split over processes
            and self.weight.device.type == "cpu"
            and input.numel()
            and not torch.is_autocast_enabled("cpu")
        )
        if not plain:
            return super().forward(input)
        rows = _Linear.apply(input.reshape(-1, input.shape[-1]), self.weight, self.bias)
        # a view made outside the function may be changed in place, as Gemma 3n does
        return rows.view(*input.shape[:-1], -1)


@contextmanager
def onednn_linears(model: nn.Module) -> Iterator[None]:
    """Within, the model's float32 linear layers on a CPU work through oneDNN, also backwards."""
    linears = [
        module
        for module in model.modules()
        if is_available()
        and type(module) is nn.Linear
        and module.weight.dtype == torch.float32
        and module.weight.device.type == "cpu"
    ]
    for linear in linears:
        linear.__class__ = OneDnnLinear
    try:
        yield
    finally:
        for linear in linears:
            linear.__class__ = nn.Linear
