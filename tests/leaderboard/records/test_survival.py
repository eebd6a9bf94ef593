"""Survival reports."""

import pytest
from pydantic import ValidationError

from leaderboard.records.survival import (
    LayerSurvival,
    Rounding,
    SurvivalReport,
    Update,
)


def layer(kept: float) -> LayerSurvival:
    update = Update(parameters=4, norm=1.0, relative_norm=0.123456789, effective_rank=2.0)
    rounding = Rounding(kept_share=kept, noise=0.5, zeroed_share=0.25)
    return LayerSurvival(update=update, rounding={"rtn-int4": rounding})


def test_numbers_have_six_digits() -> None:
    assert layer(1 / 3).rounding["rtn-int4"].kept_share == 0.333333
    assert layer(1.0).update.relative_norm == 0.123457
    with pytest.raises(ValidationError):
        layer(float("nan"))


def test_reports_of_a_checkpoint_are_merged() -> None:
    def report(precision: str, kept: float) -> SurvivalReport:
        part = LayerSurvival(
            update=layer(kept).update, rounding={precision: layer(kept).rounding["rtn-int4"]}
        )
        return SurvivalReport(
            checkpoint="c", total=part, kinds={"q_proj": part}, layers={"0.q_proj": part}
        )

    merged = report("rtn-int8", 0.9).merge(report("rtn-int4", 0.5)).merge(report("rtn-int8", 1.0))
    for part in (merged.total, merged.kinds["q_proj"], merged.layers["0.q_proj"]):
        assert {name: found.kept_share for name, found in part.rounding.items()} == {
            "rtn-int4": 0.5,
            "rtn-int8": 1.0,
        }
