"""Integer grid of round-to-nearest: scales, indices and values of a weight matrix."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor

# Elements per block of rows; a block fits the cache of a CPU.
BLOCK_ELEMENTS = 1 << 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class Grid:
    """Symmetric integer grid with one scale per group of input features.

    With N bits and the weights W of one group, Eq. 2 of arXiv 2602.13151 is::

        s = max|W| / 2^(N-1)
        q = clamp(round(W / s), -2^(N-1), 2^(N-1) - 1)

    and the quantized weight is s · q. A positive maximum has index 2^(N-1), which the clamp
    reduces, so a second application finds another grid: the map is not idempotent. The
    ``restricted`` grid uses s = max|W| / (2^(N-1) - 1) and indices within ±(2^(N-1) - 1): nothing
    is clamped and, in float32, rounding is idempotent.

    ``round`` is half-to-even, as ``torch.round``. A group with a scale of zero (its weights are
    zero, or so small that the scale underflows) gets scale 1 and is rounded to zeros.

    Attributes:
        bits: Bits per index, 2 to 8.
        group_size: Number of consecutive input features that share a scale (the last group of a
            row may be shorter); ``"row"`` for one scale per output feature, ``"tensor"`` for one
            scale per matrix.
        restricted: Use the restricted symmetric grid, without the lowest index, instead of Eq. 2.
    """

    bits: int
    group_size: int | Literal["row", "tensor"] = 128
    restricted: bool = False

    @property
    def lowest(self) -> int:
        """Smallest index."""
        return -self.highest if self.restricted else -(2 ** (self.bits - 1))

    @property
    def highest(self) -> int:
        """Largest index."""
        return 2 ** (self.bits - 1) - 1

    def absmax(self, weight: Tensor, axis: int = 1) -> Tensor:
        """Compute max|W| of every group in the dtype of ``weight``; see `scales` for arguments."""
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
        """Compute one scale per group.

        Args:
            weight: Matrix of any floating-point dtype.
            axis: Dimension of the input features: 1 for ``nn.Linear``, (outputs, inputs); 0 for
                transformers' ``Conv1D``, (inputs, outputs).

        Returns:
            The shape of ``weight`` with the number of groups in place of the input features, or
            (1, 1) for ``"tensor"``; float64 if ``weight`` is, otherwise float32. A scale is NaN or
            infinite if its group contains such values.
        """
        scales = self.absmax(weight, axis).to(_compute_dtype(weight)) / -self.lowest
        return torch.where(scales == 0, 1.0, scales)

    def scales_shape(self, outputs: int, inputs: int) -> tuple[int, int]:
        """Return the shape of `scales` for a matrix of shape (outputs, inputs)."""
        if self.group_size == "tensor":
            return 1, 1
        return outputs, 1 if self.group_size == "row" else -(-inputs // self.group_size)

    def to_indices_(self, weight: Tensor, scales: Tensor, axis: int = 1) -> Tensor:
        """Replace every weight, in place, by its index.

        Args:
            weight: Matrix of any floating-point dtype; the indices keep that dtype.
            scales: Scales of the groups, as `scales` returns them.
            axis: Dimension of the input features.
        """
        for group, scale in self._scaled_groups(weight, scales, axis):
            group.div_(scale).round_().clamp_(self.lowest, self.highest)
        return weight

    def to_values_(self, indices: Tensor, scales: Tensor, axis: int = 1) -> Tensor:
        """Replace every index, in place, by the value index · scale.

        Args:
            indices: Matrix of indices in a floating-point dtype.
            scales: Scales of the groups, as `scales` returns them.
            axis: Dimension of the input features.
        """
        for group, scale in self._scaled_groups(indices, scales, axis):
            group.mul_(scale)
        return indices

    def round_(self, weight: Tensor, axis: int = 1) -> Tensor:
        """Round a matrix to the grid, in place, a block of output features at a time.

        Args:
            weight: Matrix of any floating-point dtype. Values are computed in float32 (float64 if
                ``weight`` is) and rounded once to its dtype.
            axis: Dimension of the input features.

        Returns:
            The scales, as `scales` returns them.
        """
        shared = self.scales(weight, axis) if self.group_size == "tensor" else None
        block_scales = []
        for block in weight.split(max(1, BLOCK_ELEMENTS // weight.shape[axis]), dim=1 - axis):
            values = block.to(_compute_dtype(weight))
            scales = self.scales(values, axis) if shared is None else shared
            self.to_indices_(values, scales, axis)
            self.to_values_(values, scales, axis)
            if values is not block:
                block.copy_(values)
            block_scales.append(scales)
        return torch.cat(block_scales, dim=1 - axis) if shared is None else shared

    def _groups(self, weight: Tensor, axis: int) -> list[Tensor]:
        """Return views of all groups, (..., groups, members, ...) at dimension ``axis``."""
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
