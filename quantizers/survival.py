"""What of an update survives rounding: did the weights cross the grid?

Compares a target model W0 with its unlearned form Wu, layer by layer, from two folders of
safetensors (read block by block) or two models in memory. How behaviour recovers under the same
quantizer is measured elsewhere and belongs beside these numbers: many moves in one direction can
survive rounding on average where few indices change, and the other way round.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import torch
from safetensors import safe_open
from torch import Tensor
from transformers import PreTrainedModel

from .base import QuantizerError
from .checkpoint import empty_model
from .grid import BLOCK_ELEMENTS, Grid
from .linear import LinearLayer, check_finite, linear_layers
from .rtn import RoundToNearest

Source: TypeAlias = str | Path | PreTrainedModel


@dataclasses.dataclass(frozen=True, kw_only=True)
class Crossing:
    """How an update moved weights over one grid.

    Attributes:
        changed_indices: Share of weights whose index differs, each model on its own scales.
        changed_scales: Share of groups whose scale differs.
        largest_move: max |ΔW| / s, in steps of the target's grid.
    """

    changed_indices: float
    changed_scales: float
    largest_move: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Survival:
    """An update and what the grids make of it, for one layer or over several.

    Attributes:
        parameters: Number of weights.
        norm: ‖ΔW‖, Frobenius, with ΔW = Wu − W0.
        relative_norm: ‖ΔW‖ / ‖W0‖.
        effective_rank: (Σσ²)² / Σσ⁴ over the singular values σ of ΔW: r where r of them are equal
            and the rest zero; 0 for no update. Over several layers, their mean.
        crossings: For each quantizer's name, how weights moved over its grid.
    """

    parameters: int
    norm: float
    relative_norm: float
    effective_rank: float
    crossings: Mapping[str, Crossing]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SurvivalReport:
    """`Survival` in total, per module kind (``q_proj``) and per layer (the module's name)."""

    total: Survival
    kinds: Mapping[str, Survival]
    layers: Mapping[str, Survival]

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values."""
        return dataclasses.asdict(self)


@torch.no_grad()
def survival(
    target: Source, unlearned: Source, quantizers: Mapping[str, RoundToNearest]
) -> SurvivalReport:
    """Measure an update against the grids of round-to-nearest quantizers.

    Of folders, memory holds two blocks of about a million weights (two layers for a grid with one
    scale per tensor) and one square matrix of a layer's smaller side, never a model.

    Args:
        target: The model before unlearning: in memory, or a folder with safetensors.
        unlearned: The model afterwards (adapters merged), of the same architecture.
        quantizers: The grids, by the name under which they are reported. All must quantize the
            same layers (``skip``, ``quantize_head``).

    Raises:
        QuantizerError: the quantizers differ in their layers, the models in their shapes, a
            folder is no model folder or lacks a weight, or a weight is not finite.
    """
    choices = {(quantizer.skip, quantizer.quantize_head) for quantizer in quantizers.values()}
    if len(choices) != 1:
        raise QuantizerError(
            "survival needs at least one quantizer, all with the same skip and quantize_head; "
            f"got {', '.join(quantizers) or 'none'}"
        )
    skip, head = choices.pop()
    skeleton = target if isinstance(target, PreTrainedModel) else empty_model(Path(target))
    grids = {name: quantizer.grid for name, quantizer in quantizers.items()}
    with _weights(target) as before, _weights(unlearned) as after:
        layers = {
            layer.name: _measure(layer, before(layer), after(layer), grids)
            for layer in linear_layers(skeleton, skip=skip, head=head)
        }
    kinds = defaultdict(list)
    for name, sums in layers.items():
        kinds[name.rpartition(".")[2]].append(sums)
    return SurvivalReport(
        total=_Sums.over(layers.values()).result(),
        kinds={kind: _Sums.over(members).result() for kind, members in kinds.items()},
        layers={name: sums.result() for name, sums in layers.items()},
    )


@dataclasses.dataclass(kw_only=True)
class _Sums:
    """What adds up over blocks and layers."""

    parameters: int = 0
    delta_squares: float = 0.0
    target_squares: float = 0.0
    ranks: list[float] = dataclasses.field(default_factory=list)
    groups: Counter[str] = dataclasses.field(default_factory=Counter)
    changed_indices: Counter[str] = dataclasses.field(default_factory=Counter)
    changed_scales: Counter[str] = dataclasses.field(default_factory=Counter)
    largest_move: dict[str, float] = dataclasses.field(default_factory=dict)

    @classmethod
    def over(cls, members: Iterable[_Sums]) -> _Sums:
        """The sums of several layers."""
        total = cls()
        for sums in members:
            total.parameters += sums.parameters
            total.delta_squares += sums.delta_squares
            total.target_squares += sums.target_squares
            total.ranks += sums.ranks
            total.groups += sums.groups
            total.changed_indices.update(sums.changed_indices)
            total.changed_scales.update(sums.changed_scales)
            for name, move in sums.largest_move.items():
                total.largest_move[name] = max(total.largest_move.get(name, 0.0), move)
        return total

    def result(self) -> Survival:
        """Norms and shares from the sums."""
        norm, target_norm = math.sqrt(self.delta_squares), math.sqrt(self.target_squares)
        return Survival(
            parameters=self.parameters,
            norm=norm,
            relative_norm=0.0 if norm == 0 else norm / target_norm if target_norm else math.inf,
            effective_rank=statistics.fmean(self.ranks),
            crossings={
                name: Crossing(
                    changed_indices=self.changed_indices[name] / self.parameters,
                    changed_scales=self.changed_scales[name] / self.groups[name],
                    largest_move=self.largest_move[name],
                )
                for name in self.groups
            },
        )


class _Slices(Protocol):
    """A matrix that is read by slices: a tensor, or one in a safetensors file."""

    def __getitem__(self, index: Any) -> Tensor: ...


def _measure(
    layer: LinearLayer, before: _Slices, after: _Slices, grids: Mapping[str, Grid]
) -> _Sums:
    sums = _Sums(parameters=layer.weight.numel(), ranks=[_effective_rank(layer, before, after)])
    whole = any(grid.group_size == "tensor" for grid in grids.values())
    for old, new in _blocks(layer, before, after, dim=1 - layer.axis, whole=whole):
        delta = new - old
        sums.delta_squares += float(delta.double().square_().sum())
        sums.target_squares += float(old.double().square_().sum())
        for name, grid in grids.items():
            old_scales, new_scales = grid.scales(old, layer.axis), grid.scales(new, layer.axis)
            moves = grid.peaks(delta, layer.axis) / old_scales
            old_indices = grid.to_indices_(old.clone(), old_scales, layer.axis)
            new_indices = grid.to_indices_(new.clone(), new_scales, layer.axis)
            sums.groups[name] += old_scales.numel()
            sums.changed_scales[name] += int((old_scales != new_scales).sum())
            sums.changed_indices[name] += int((old_indices != new_indices).sum())
            sums.largest_move[name] = max(sums.largest_move.get(name, 0.0), float(moves.max()))
    return sums


def _effective_rank(layer: LinearLayer, before: _Slices, after: _Slices) -> float:
    """(tr G)² / ‖G‖² with G = ΔWᵀΔW or ΔWΔWᵀ, the smaller, whose eigenvalues are σ²."""
    longer = 0 if layer.weight.shape[0] >= layer.weight.shape[1] else 1
    smaller = layer.weight.shape[1 - longer]
    gram = torch.zeros(smaller, smaller, device=before[:1].device)
    for old, new in _blocks(layer, before, after, dim=longer):
        delta = (new - old).float().movedim(longer, 0)
        gram.addmm_(delta.T, delta)
    trace = float(gram.diagonal().double().sum())
    squares = sum(float(row.double().square().sum()) for row in gram)
    return trace**2 / squares if squares else 0.0


def _blocks(
    layer: LinearLayer, before: _Slices, after: _Slices, *, dim: int, whole: bool = False
) -> Iterator[tuple[Tensor, Tensor]]:
    """Blocks of both weights along ``dim``, in float32 (float64 where the weight is)."""
    length = layer.weight.shape[dim]
    step = length if whole else max(1, BLOCK_ELEMENTS // layer.weight.shape[1 - dim])
    for start in range(0, length, step):
        index = (slice(None),) * dim + (slice(start, start + step),)
        pair = []
        for weight in (before, after):
            block = weight[index]
            check_finite(layer.name, block)
            pair.append(block.to(torch.promote_types(block.dtype, torch.float32)))
        yield pair[0], pair[1]


@contextmanager
def _weights(source: Source) -> Iterator[Callable[[LinearLayer], _Slices]]:
    """A function that finds a layer's weight in ``source``."""
    with ExitStack() as stack:
        if isinstance(source, PreTrainedModel):
            shapes = {name: weight.shape for name, weight in source.named_parameters()}
            read: Callable[[str], _Slices] = source.get_parameter
        else:
            files = [
                stack.enter_context(safe_open(path, framework="pt"))
                for path in sorted(Path(source).glob("*.safetensors"))
            ]
            if not files:
                raise QuantizerError(f"{source} holds no safetensors")
            places = {key: file for file in files for key in file.keys()}  # noqa: SIM118
            shapes = {
                key: torch.Size(file.get_slice(key).get_shape()) for key, file in places.items()
            }

            def read(key: str) -> _Slices:
                return places[key].get_slice(key)

        def find(layer: LinearLayer) -> _Slices:
            # Checkpoints of a bare base model lack the first part of the name.
            for name in (layer.name, layer.name.partition(".")[2]):
                if shapes.get(key := f"{name}.weight") == layer.weight.shape:
                    return read(key)
            raise QuantizerError(
                f"no '{layer.name}.weight' of shape {tuple(layer.weight.shape)} in "
                f"{source if isinstance(source, str | Path) else type(source).__name__}; compare "
                "two unquantized models of the same architecture, adapters merged"
            )

        yield find
