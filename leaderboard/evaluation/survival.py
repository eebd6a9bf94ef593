"""Measurement of the part of a checkpoint's update that rounding keeps."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from ..records.schema import Survival
from ..records.survival import (
    LayerSurvival,
    Rounding,
    SurvivalReport,
    Update,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from quantizers import Quantizer
    from quantizers.survival import Summary


class SurvivalMeter:
    """Compares a checkpoint with its target, at one precision after the other.

    Args:
        target: The model before unlearning, in the dtype that training started from.
        unlearned: The checkpoint, adapters merged, before quantization.
        name: Name of the checkpoint.

    Raises:
        QuantizerError: The two cannot be compared.
    """

    def __init__(self, target: PreTrainedModel, unlearned: PreTrainedModel, name: str) -> None:
        from quantizers.survival import measure_update

        self._target, self._unlearned, self._name = target, unlearned, name
        self._update = measure_update(target, unlearned)

    def measure(
        self, precision: str, quantizer: Quantizer, quantized: PreTrainedModel
    ) -> SurvivalReport:
        """Measure one precision.

        Args:
            precision: Name of the precision.
            quantizer: The quantizer, bound to its text if it is calibrated.
            quantized: The checkpoint as the quantizer returned it.

        Raises:
            QuantizerError: The target cannot be quantized in the same way.
        """
        from quantizers.survival import measure_rounding

        rounding = None
        if quantizer.bits is not None:
            rounding = measure_rounding(self._target, self._unlearned, quantizer, quantized)
        return _report(self._name, precision, self._update, rounding)


def at_precision(report: SurvivalReport, precision: str) -> Survival:
    """Totals at a precision, which a record keeps."""
    return Survival(update=report.total.update, rounding=report.total.rounding.get(precision))


def _report(
    name: str, precision: str, update: Summary[Any], rounding: Summary[Any] | None
) -> SurvivalReport:
    def part(size: Any, effect: Any) -> LayerSurvival:
        return LayerSurvival(
            update=Update.model_validate(dataclasses.asdict(size)),
            rounding={precision: Rounding.model_validate(dataclasses.asdict(effect))}
            if effect
            else {},
        )

    def parts(group: str) -> dict[str, LayerSurvival]:
        effects = getattr(rounding, group) if rounding else {}
        return {key: part(size, effects.get(key)) for key, size in getattr(update, group).items()}

    return SurvivalReport(
        checkpoint=name,
        total=part(update.total, rounding.total if rounding else None),
        kinds=parts("kinds"),
        layers=parts("layers"),
    )
