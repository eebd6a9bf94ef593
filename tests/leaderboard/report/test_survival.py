from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from leaderboard.records.schema import Record, Survival
from leaderboard.records.survival import (
    LayerSurvival,
    Rounding,
    SurvivalReport,
    Update,
)
from leaderboard.report.markdown import markdown
from leaderboard.report.plots import make_plots
from leaderboard.report.survival import kept_by_block
from leaderboard.standings.table import Row, build_table

MakeRecord = Callable[..., Record]


def layer(norm: float, kept: float | None) -> LayerSurvival:
    rounding = Rounding(
        kept_share=kept,
        noise=1.5,
        zeroed_share=0.79,
        changed_indices=0.3,
        changed_scales=0.5,
        largest_move=1.25,
    )
    return LayerSurvival(
        update=Update(parameters=100, norm=norm, relative_norm=0.05, effective_rank=3.0),
        rounding={"rtn-int4": rounding},
    )


def report(checkpoint: str = "c") -> SurvivalReport:
    """Two layers of one block, with updates of norm 1 and 3, and one of another."""
    layers = {
        "model.layers.0.self_attn.q_proj": layer(1.0, 0.8),
        "model.layers.0.mlp.up_proj": layer(3.0, 0.3),
        "model.layers.1.mlp.up_proj": layer(1.0, 0.1),
    }
    return SurvivalReport(checkpoint=checkpoint, total=layer(3.3, 0.31), kinds={}, layers=layers)


def rows(make: MakeRecord, after: float) -> list[Row]:
    """VerbMem: target 100, retrain 20, unlearned 20, quantized ``after``."""
    records = [
        make(role, precision, values)
        for precision in ("none", "rtn-int4")
        for role, values in (
            ("target", (100.0, 80.0, -100.0, 80.0)),
            ("retrain", (20.0, 30.0, 0.0, 80.0)),
        )
    ]
    for precision, verbmem in (("none", 20.0), ("rtn-int4", after)):
        record = make("npo", precision, (verbmem, 30.0, -50.0, 80.0))
        total = report().total
        survival = Survival(update=total.update, rounding=total.rounding.get(precision))
        records.append(record.model_copy(update={"survival": survival}))
    return build_table(records)


def test_numbers_and_score_changes_share_a_line(make: MakeRecord) -> None:
    """From 20 to 40: 20 of the 80 points to the target's 100; errors of 1.5 each, unrelated."""
    text = markdown("t", rows(make, after=40.0))
    expected = (
        "| npo | full | rtn-int4 | 0.0500 | 3.0 | 0.31 | 1.50 | 79% | 30.0% | 50.0% | 1.25 | "
        "+20.0 ±2.1 | 25% |"
    )
    assert expected in text


def test_no_section_without_a_measured_update(make: MakeRecord) -> None:
    table = build_table([make("npo")])
    assert "What rounding keeps" not in markdown("t", table)
    assert make_plots(table, {}) == {}


def test_a_number_that_is_not_known_is_missing(make: MakeRecord) -> None:
    survival = Survival(
        update=report().total.update,
        rounding=Rounding(kept_share=None, noise=None, zeroed_share=None),
    )
    record = make("npo", "bnb-fp4").model_copy(update={"survival": survival})
    line = "| npo | full | bnb-fp4 | 0.0500 | 3.0 | — | — | — | — | — | — |"
    assert line in markdown("t", build_table([record]))


def test_kept_share_of_a_block_is_weighted_by_the_update() -> None:
    """(1² · 0.8 + 3² · 0.3) / 10 = 0.35."""
    assert kept_by_block(report(), "rtn-int4") == {
        0: pytest.approx(0.35),
        1: pytest.approx(0.1),
    }
    assert kept_by_block(report(), "rtn-int8") == {}


def test_plot_of_the_kept_share(make: MakeRecord) -> None:
    """Block 0 at 35%, block 1 at 10%."""
    table = rows(make, 40.0)
    (stem,) = {row.records[0].cell.training.stem for row in table if row.method == "npo"}
    reports: dict[str, Any] = {stem: report(stem)}
    ((plot,),) = make_plots(table, reports)["survival"].values()
    figure = Figure()
    plot.draw(figure, plot.data, {})
    (axes,) = figure.axes
    (line,) = axes.lines
    assert line.get_xydata() == pytest.approx(np.array([[0, 0.35], [1, 0.1]]))
    assert axes.get_ylim()[0] == 0
