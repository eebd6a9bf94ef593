"""The integer grid of round-to-nearest: scales, indices and values of a weight matrix."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor

# Rows are worked on in blocks of about this many elements, which fit a processor's cache.
BLOCK_ELEMENTS = 1 << 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class Grid:
    """Symmetric integer grid with one scale per group of input features.

    With N bits and the weights W of one group, Eq. 2 of arXiv 2602.13151 is::

        s = max|W| / 2^(N-1)
        q = clamp(round(W / s), -2^(N-1), 2^(N-1) - 1)

    and the quantized weight is s · q. A positive extreme has index 2^(N-1), which the clamp cuts,
    so a second application finds a smaller maximum and another grid: the map is not idempotent.
    The ``restricted`` grid takes s = max|W| / (2^(N-1) - 1) and indices within ±(2^(N-1) - 1):
    nothing is cut and, in float32, rounding twice is rounding once.

    ``round`` is half-to-even, as ``torch.round``. A group whose scale is zero (all its weights
    are zero, or too small for their scale to be a number) gets scale 1 and so becomes zeros.

    Attributes:
        bits: Bits per index, 2 to 8.
        group_size: Consecutive input features that share a scale (the last group of a row may be
            shorter), ``"row"`` (all inputs of one output) or ``"tensor"`` (the whole matrix).
        restricted: Use the restricted symmetric grid instead of Eq. 2.
    """

    bits: int
    group_size: int | Literal["row", "tensor"] = 128
    restricted: bool = False

    @property
    def lowest(self) -> int:
        """The smallest index."""
        return -self.highest if self.restricted else -(2 ** (self.bits - 1))

    @property
    def highest(self) -> int:
        """The largest index."""
        return 2 ** (self.bits - 1) - 1

    def peaks(self, weight: Tensor, axis: int = 1) -> Tensor:
        """max|W| of every group, in ``weight``'s dtype; arguments and shape as for `scales`."""
        # Two reductions make no temporary of the weight's size, where abs() would.
        peaks = torch.cat(
            [
                torch.maximum(group.amax(axis + 1), -group.amin(axis + 1))
                for group in self._groups(weight, axis)
            ],
            dim=axis,
        )
        return peaks.amax().view(1, 1) if self.group_size == "tensor" else peaks

    def scales(self, weight: Tensor, axis: int = 1) -> Tensor:
        """One scale per group.

        Args:
            weight: Matrix of any floating dtype, ``axis`` running over input features.
            axis: 1 for ``nn.Linear`` (out × in), 0 for transformers' ``Conv1D`` (in × out).

        Returns:
            ``weight``'s shape with the number of groups in place of the input features, 1 × 1
            for ``"tensor"``; float32, or float64 where ``weight`` is. NaN or infinite where the
            group holds such values.
        """
        scales = self.peaks(weight, axis).to(_compute_dtype(weight)) / -self.lowest
        return torch.where(scales == 0, 1.0, scales)

    def scales_shape(self, outputs: int, inputs: int) -> tuple[int, int]:
        """The shape of `scales` for a matrix of outputs × inputs."""
        if self.group_size == "tensor":
            return 1, 1
        return outputs, 1 if self.group_size == "row" else -(-inputs // self.group_size)

    def to_indices_(self, weight: Tensor, scales: Tensor, axis: int = 1) -> Tensor:
        """Replace every weight, in place, by its index (an integer kept in ``weight``'s dtype)."""
        for group, scale in self._scaled_groups(weight, scales, axis):
            group.div_(scale).round_().clamp_(self.lowest, self.highest)
        return weight

    def to_values_(self, indices: Tensor, scales: Tensor, axis: int = 1) -> Tensor:
        """Replace every index (in a floating dtype), in place, by the value index · scale."""
        for group, scale in self._scaled_groups(indices, scales, axis):
            group.mul_(scale)
        return indices

    def round_(self, weight: Tensor, axis: int = 1) -> Tensor:
        """Round ``weight`` to the grid in place and return the scales.

        Computed in float32 (float64 where ``weight`` is) and rounded once to ``weight``'s dtype,
        a block of output features at a time.
        """
        shared = self.scales(weight, axis) if self.group_size == "tensor" else None
        used = []
        for block in weight.split(max(1, BLOCK_ELEMENTS // weight.shape[axis]), dim=1 - axis):
            values = block.to(_compute_dtype(weight))
            scales = self.scales(values, axis) if shared is None else shared
            self.to_indices_(values, scales, axis)
            self.to_values_(values, scales, axis)
            if values is not block:
                block.copy_(values)
            used.append(scales)
        return torch.cat(used, dim=1 - axis) if shared is None else shared

    def _groups(self, weight: Tensor, axis: int) -> list[Tensor]:
        """Views of all groups: dimension ``axis`` counts them, the next one runs inside them."""
        features = weight.shape[axis]
        size = features if isinstance(self.group_size, str) else min(self.group_size, features)
        full = features - features % size
        views = [weight.narrow(axis, 0, full).unflatten(axis, (-1, size))]
        if full < features:
            views.append(weight.narrow(axis, full, features - full).unsqueeze(axis))
        return views

    def _scaled_groups(
        self, weight: Tensor, scales: Tensor, axis: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        groups = self._groups(weight, axis)
        counts = [group.shape[axis] for group in groups]
        return zip(groups, scales.unsqueeze(axis + 1).split(counts, dim=axis), strict=True)


def _compute_dtype(weight: Tensor) -> torch.dtype:
    return torch.promote_types(weight.dtype, torch.float32)
