"""Size of an unlearning update, and the share of it that a quantizer keeps.

Compares a target model W0 with its unlearned form Wu, layer by layer. ΔW = Wu − W0 is the update,
and Q(Wu) − Q(W0) is the update after quantization.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor
from transformers import PreTrainedModel

from .base import Quantizer
from .errors import QuantizerError
from .grid import BLOCK_ELEMENTS, Grid
from .layer_pairs import LayerPair, layer_pairs
from .layers import check_finite, linear_layers
from .methods.rtn import RoundToNearest

S = TypeVar("S")
T = TypeVar("T")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Update:
    """Size of an update, of one layer or over several.

    Attributes:
        parameters: Number of weights.
        norm: Frobenius norm ‖ΔW‖.
        relative_norm: ‖ΔW‖ / ‖W0‖; None if W0 is zero.
        effective_rank: (Σσ²)² / Σσ⁴ over the singular values σ of ΔW, which is r if r of them are
            equal and the rest zero; 0 for no update. Mean over several layers or experts.
    """

    parameters: int
    norm: float
    relative_norm: float | None
    effective_rank: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rounding:
    """Effect of a quantizer Q on an update, of one layer or over several.

    The first three are None if ΔW is zero. The others cover the layers that are rounded to the
    nearest on an integer grid, and are None if there are none.

    Attributes:
        kept_share: ⟨Q(Wu) − Q(W0), ΔW⟩ / ‖ΔW‖²: 1 if Q keeps the update on average, 0 if it
            removes the update.
        noise: ‖Q(Wu) − Q(W0) − ΔW‖ / ‖ΔW‖.
        zeroed_share: Share of ‖ΔW‖² on weights that Q maps to zero in W0.
        changed_indices: Share of weights with different indices, each model on its own scales.
        changed_scales: Share of groups with different scales.
        largest_move: Max |ΔW| / s, in steps s of the target's grid.
    """

    kept_share: float | None
    noise: float | None
    zeroed_share: float | None
    changed_indices: float | None
    changed_scales: float | None
    largest_move: float | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Summary(Generic[T]):
    """A measurement in total, by kind of layer and by layer.

    Attributes:
        total: Measurement over all layers.
        kinds: Measurement over all layers of one kind, by the last part of their names
            (``q_proj``).
        layers: Measurement of each layer by name; experts that share a tensor are one layer.
    """

    total: T
    kinds: Mapping[str, T]
    layers: Mapping[str, T]

    def to_dict(self) -> dict[str, Any]:
        """Return the summary as JSON values."""
        return dataclasses.asdict(self)


@torch.no_grad()
def measure_update(target: PreTrainedModel, unlearned: PreTrainedModel) -> Summary[Update]:
    """Measure the update of every linear layer and expert, except for the output head.

    Args:
        target: Model before unlearning, on any device. Its weights are copied to the device of
            ``unlearned`` layer by layer.
        unlearned: Model after unlearning, adapters merged.

    Raises:
        QuantizerError: The models differ in dtype, shapes or layers, or a weight is not finite.
    """
    sums = defaultdict(list)
    for pair in layer_pairs(target, unlearned):
        sums[pair.name].append(_update_sums(pair))
    return _summarize(sums, _update)


def measure_rounding(
    target: PreTrainedModel,
    unlearned: PreTrainedModel,
    quantizer: Quantizer,
    quantized: PreTrainedModel,
) -> Summary[Rounding] | None:
    """Measure the share of an update that a quantizer keeps, over the layers of `measure_update`.

    Layers that the quantizer does not change count with their own weights. One more model is held
    in memory: a quantized copy of the target, on the device of ``unlearned``.

    Args:
        target: Model before unlearning, on any device.
        unlearned: Model after unlearning, adapters merged.
        quantizer: Quantizer, bound to its calibration text if it needs any.
        quantized: Model that ``quantizer`` returned for a copy of ``unlearned``.

    Returns:
        The measurement; None if `Quantizer.dequantize` returns None.

    Raises:
        QuantizerError: ``quantized`` is ``unlearned`` itself though the quantizer changes
            weights, the models differ in dtype, shapes or layers, or a weight is not finite.
    """
    if quantized is unlearned and quantizer.bits is not None:
        raise QuantizerError(
            f"{type(quantizer).__name__} got the unlearned model itself; quantize a copy of it "
            "(copy.deepcopy), since the two are compared"
        )
    pairs = layer_pairs(target, unlearned)
    if pairs[0].dequantized(quantizer, quantized) is None:
        return None
    grids = _grids(quantizer, target)
    # Gradients stay enabled here: a quantizer may train.
    quantized_target = quantizer(copy.deepcopy(target).to(unlearned.device))  # type: ignore[arg-type]
    sums = defaultdict(list)
    with torch.no_grad():
        for pair in pairs:
            old = pair.dequantized(quantizer, quantized_target)
            new = pair.dequantized(quantizer, quantized)
            if old is None or new is None:
                return None
            sums[pair.name].append(_rounding_sums(pair, old, new, grids.get(pair.name)))
    return _summarize(sums, _rounding)


def _grids(quantizer: Quantizer, target: PreTrainedModel) -> dict[str, Grid]:
    """Return the grid of every layer that is rounded to the nearest, by name."""
    if not isinstance(quantizer, RoundToNearest):
        return {}
    return {layer.name: quantizer.grid for layer in linear_layers(target, skip=quantizer.skip)}


def _summarize(layers: Mapping[str, Sequence[S]], result: Callable[[Sequence[S]], T]) -> Summary[T]:
    kinds: dict[str, list[S]] = defaultdict(list)
    for name, sums in layers.items():
        kinds[name.rpartition(".")[2]].extend(sums)
    return Summary(
        total=result([matrix for sums in layers.values() for matrix in sums]),
        kinds={kind: result(members) for kind, members in kinds.items()},
        layers={name: result(sums) for name, sums in layers.items()},
    )


class _UpdateSums(NamedTuple):
    """Sums over one matrix, additive over matrices."""

    parameters: int
    delta_squares: float
    target_squares: float
    effective_rank: float


def _update_sums(pair: LayerPair) -> _UpdateSums:
    old, new = pair.weights()
    if new.shape[0] < new.shape[1]:  # ΔWᵀΔW, with eigenvalues σ², is then smaller
        old, new = old.T, new.T
    sums = torch.zeros(2, dtype=torch.float64, device=new.device)
    gram = torch.zeros(2 * new.shape[1:], dtype=_compute_dtype(new), device=new.device)
    for before, after in _blocks(old, new):
        delta = after - before
        gram.addmm_(delta.T, delta)
        sums += torch.stack([_squares(delta), _squares(before)])
    trace = gram.diagonal().sum(dtype=torch.float64)
    squares = torch.linalg.vector_norm(gram, dtype=torch.float64).square()
    values = _finite(pair.name, torch.stack([*sums, trace.square(), squares]), old, new)
    rank = values[2] / values[3] if values[3] else 0.0
    return _UpdateSums(new.numel(), values[0], values[1], rank)


def _update(layers: Sequence[_UpdateSums]) -> Update:
    parameters, delta_squares, target_squares, ranks = map(sum, zip(*layers, strict=True))
    return Update(
        parameters=parameters,
        norm=math.sqrt(delta_squares),
        relative_norm=math.sqrt(delta_squares / target_squares) if target_squares else None,
        effective_rank=ranks / len(layers),
    )


class _RoundingSums(NamedTuple):
    """Sums over one matrix; without an integer grid all but the four in the middle are zero."""

    on_grid: int
    groups: int
    delta_squares: float
    kept: float
    noise_squares: float
    zeroed_squares: float
    changed_indices: float
    changed_scales: float
    largest_move: float


def _rounding_sums(
    pair: LayerPair, old_rounded: Tensor, new_rounded: Tensor, grid: Grid | None
) -> _RoundingSums:
    old, new = pair.weights()
    sums = torch.zeros(4, dtype=torch.float64, device=new.device)
    for before, after, q_before, q_after in _blocks(old, new, old_rounded, new_rounded):
        delta, moved = after - before, q_after - q_before
        kept = (moved.double() * delta).sum()
        zeroed = torch.where(q_before == 0, delta, 0)
        sums += torch.stack([_squares(delta), kept, _squares(moved - delta), _squares(zeroed)])
    crossing = sums.new_zeros(3) if grid is None else _crossing(grid, old, new)
    values = _finite(pair.name, torch.cat([sums, crossing]), old, new, old_rounded, new_rounded)
    if grid is None:
        return _RoundingSums(0, 0, *values)
    return _RoundingSums(new.numel(), math.prod(grid.scales_shape(*new.shape)), *values)


def _crossing(grid: Grid, old: Tensor, new: Tensor) -> Tensor:
    """Count changed indices and changed scales; find the largest move in steps; float64."""
    scales = grid.scales(old), grid.scales(new)
    changed_scales = (scales[0] != scales[1]).sum()
    changed_indices = torch.zeros_like(changed_scales)
    largest = torch.zeros((), dtype=scales[0].dtype, device=new.device)
    by_row = [values.expand(len(new), -1) for values in scales]
    for before, after, old_scales, new_scales in _blocks(old, new, *by_row):
        moves = grid.absmax(after - before) / old_scales
        largest = torch.maximum(largest, moves.max())
        old_indices = grid.to_indices_(before.clone(), old_scales)
        new_indices = grid.to_indices_(after.clone(), new_scales)
        changed_indices += (old_indices != new_indices).sum()
    return torch.stack([changed_indices.double(), changed_scales.double(), largest.double()])


def _rounding(layers: Sequence[_RoundingSums]) -> Rounding:
    total = _RoundingSums(*map(sum, zip(*layers, strict=True)))
    squares = total.delta_squares
    return Rounding(
        kept_share=total.kept / squares if squares else None,
        noise=math.sqrt(total.noise_squares / squares) if squares else None,
        zeroed_share=total.zeroed_squares / squares if squares else None,
        changed_indices=total.changed_indices / total.on_grid if total.on_grid else None,
        changed_scales=total.changed_scales / total.groups if total.groups else None,
        largest_move=max(layer.largest_move for layer in layers) if total.on_grid else None,
    )


def _blocks(*matrices: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Yield blocks of rows of all matrices in float32 (float64 if the first matrix is)."""
    dtype = _compute_dtype(matrices[0])
    rows = max(1, BLOCK_ELEMENTS // matrices[0].shape[1])
    for blocks in zip(*(matrix.split(rows) for matrix in matrices), strict=True):
        yield tuple(block.to(dtype) for block in blocks)


def _compute_dtype(weight: Tensor) -> torch.dtype:
    return torch.promote_types(weight.dtype, torch.float32)


def _squares(values: Tensor) -> Tensor:
    return values.double().square().sum()


def _finite(name: str, sums: Tensor, *weights: Tensor) -> list[float]:
    """Return ``sums`` as numbers; refuse the weight that makes one of them NaN or infinite."""
    values = sums.tolist()
    if not all(map(math.isfinite, values)):
        for weight in weights:
            check_finite(name, weight)
    return values
