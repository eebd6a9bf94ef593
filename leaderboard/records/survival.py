"""Survival report of a checkpoint: its update, and what every quantizer of the run makes of it.

A run keeps one file for each checkpoint, ``survival/<checkpoint>.json``, with every layer once; a
record holds the totals for its own precision. `quantizers.survival` computes the numbers.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

SIGNIFICANT_DIGITS = 6
LARGEST = 1e100
"""Beyond the weights of any dtype; sums of squares stay finite."""


def _significant(value: Any) -> Any:
    return float(f"{value:.{SIGNIFICANT_DIGITS}g}") if isinstance(value, float) else value


Number = Annotated[
    float, BeforeValidator(_significant), Field(allow_inf_nan=False, ge=-LARGEST, le=LARGEST)
]
"""A finite number, kept with six significant digits."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Update(_Strict):
    """Size of an update ΔW = Wu − W0 of the target's weights W0."""

    parameters: int
    """Number of weights."""
    norm: Number
    """‖ΔW‖, Frobenius."""
    relative_norm: Number | None = None
    """‖ΔW‖ / ‖W0‖; null if W0 is zero."""
    effective_rank: Number
    """(Σσ²)² / Σσ⁴ over the singular values σ of ΔW; over several layers their mean."""


class Rounding(_Strict):
    """Effect of a quantizer Q on an update; the shares are null if there is no update."""

    kept_share: Number | None = None
    """⟨Q(Wu) − Q(W0), ΔW⟩ / ‖ΔW‖²: 1 if rounding keeps the update on average, 0 if it
    removes it."""
    noise: Number | None = None
    """‖Q(Wu) − Q(W0) − ΔW‖ / ‖ΔW‖."""
    zeroed_share: Number | None = None
    """Share of ‖ΔW‖² on weights that Q maps to zero in W0."""
    changed_indices: Number | None = None
    """Share of weights whose index on the grid changed; for round-to-nearest only."""
    changed_scales: Number | None = None
    """Share of groups whose scale changed; for round-to-nearest only."""
    largest_move: Number | None = None
    """max |ΔW| in steps of the target's grid; for round-to-nearest only."""


class LayerSurvival(_Strict):
    """Update of a layer, of a kind of layers or of all, and its roundings by precision."""

    update: Update
    """Size of the update."""
    rounding: dict[str, Rounding] = {}
    """Effect of each quantizer, by the name of its precision."""


class SurvivalReport(_Strict):
    """Content of ``survival/<checkpoint>.json``."""

    schema_version: int = 2
    """Version of the record format."""
    checkpoint: str
    """Name of the checkpoint."""
    total: LayerSurvival
    """Over all layers."""
    kinds: dict[str, LayerSurvival]
    """Over the layers of one kind, such as `q_proj`."""
    layers: dict[str, LayerSurvival]
    """By name of the layer."""

    def merge(self, other: SurvivalReport) -> SurvivalReport:
        """Add the precisions of another report on the same checkpoint; its numbers win."""

        def merged(
            mine: dict[str, LayerSurvival], theirs: dict[str, LayerSurvival]
        ) -> dict[str, LayerSurvival]:
            return {name: join(mine[name], layer) for name, layer in theirs.items()}

        def join(mine: LayerSurvival, theirs: LayerSurvival) -> LayerSurvival:
            rounding = {**mine.rounding, **theirs.rounding}
            return LayerSurvival(
                update=theirs.update, rounding={name: rounding[name] for name in sorted(rounding)}
            )

        if (self.layers.keys(), self.kinds.keys()) != (other.layers.keys(), other.kinds.keys()):
            return other
        return SurvivalReport(
            checkpoint=other.checkpoint,
            total=join(self.total, other.total),
            kinds=merged(self.kinds, other.kinds),
            layers=merged(self.layers, other.layers),
        )
