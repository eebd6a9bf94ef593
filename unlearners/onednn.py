"""Float32 linear layers on a CPU through oneDNN; off unless ``LM_EVAL_MUSE_ONEDNN=1``.

PyTorch's x86 builds compute float32 matrix products with MKL, which does not use the AVX-512 units
of AMD processors; oneDNN, in the same builds, does. Measured on an AMD CPU: float32 training is 1.7
to 1.9 times as fast. Sums are rounded in another order, so the last bits of results differ. The
operator is private to PyTorch and may change with any version. Nothing changes on GPUs or in other
dtypes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable

VARIABLE = "LM_EVAL_MUSE_ONEDNN"


def is_available() -> bool:
    """Return True if this build of PyTorch has oneDNN's linear layer."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def is_enabled() -> bool:
    """Return True if the environment asks for oneDNN and this build of PyTorch has it."""
    return os.environ.get(VARIABLE) == "1" and is_available()


def _product(
    rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor:
    return torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, states: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
    ) -> torch.Tensor:
        """Compute states · weightᵀ + bias, (N, out_features) float32.

        Args:
            ctx: Context of autograd.
            states: (N, in_features) float32.
            weight: (out_features, in_features) float32.
            bias: (out_features,) float32 or None.
        """
        ctx.save_for_backward(states, weight)
        return _product(states, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Compute the gradients for a gradient of the outputs, (N, out_features) float32."""
        states, weight = ctx.saved_tensors
        needs_states, needs_weight, needs_bias = ctx.needs_input_grad
        rows = gradient.contiguous()  # a gradient of stride 0, as of sum(), is 250 times slower
        return (
            _product(rows, weight.t()) if needs_states else None,
            _product(states.t(), rows.t()).t() if needs_weight else None,
            rows.sum(0) if needs_bias else None,
        )


class OneDnnLinear(nn.Linear):
    """``nn.Linear`` that computes float32 products on a CPU with oneDNN."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Apply the layer to (..., in_features); the result is (..., out_features)."""
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
        # A view made outside the function may be changed in place, as Gemma 3n does.
        return rows.view(*input.shape[:-1], -1)


@contextmanager
def onednn_linears(model: nn.Module) -> Iterator[None]:
    """Compute the model's float32 linear layers on a CPU with oneDNN within this context.

    Without ``LM_EVAL_MUSE_ONEDNN=1`` nothing changes.

    Args:
        model: Model to switch. Subclasses of ``nn.Linear`` are not switched.
    """
    linears = [
        module
        for module in model.modules()
        if is_enabled()
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
