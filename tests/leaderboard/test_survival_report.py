from collections.abc import Callable
from typing import Any

import pytest

from leaderboard.cell import Record
from leaderboard.errors import InputError
from leaderboard.report.markdown import markdown
from leaderboard.report.plots import make_plots
from leaderboard.report.survival import SurvivalReport, share_by_block
from leaderboard.table import build_table

MakeRecord = Callable[..., Record]


def part(parameters: int, share: float) -> dict[str, Any]:
    crossing = {"changed_indices": share, "changed_scales": 0.5, "largest_move": 1.25}
    return {
        "parameters": parameters,
        "norm": 1.0,
        "relative_norm": 0.05,
        "effective_rank": 3.0,
        "crossings": {"rtn-int4": crossing},
    }


def report(changed: float) -> dict[str, Any]:
    """Two layers of one block, of 100 and 300 weights, and one of another."""
    layers = {
        "model.layers.0.self_attn.q_proj": part(100, 0.4),
        "model.layers.0.mlp.up_proj": part(300, 0.2),
        "model.layers.1.mlp.up_proj": part(100, 0.1),
    }
    return {"total": part(500, changed), "kinds": {}, "layers": layers}


def rows(make: MakeRecord, changed: float, after: float) -> list[Any]:
    """VerMem: target 100, retrain 20, unlearned 20, quantized ``after``."""
    records = [
        make(role, precision, values)
        for precision in ("bf16", "rtn-int4")
        for role, values in (
            ("target", (100.0, 80.0, -100.0, 80.0)),
            ("retrain", (20.0, 30.0, 0.0, 80.0)),
        )
    ]
    for precision, verbmem in (("bf16", 20.0), ("rtn-int4", after)):
        record = make("npo", precision, (verbmem, 30.0, -50.0, 80.0))
        records.append(record.model_copy(update={"survival": report(changed)}))
    return build_table(records)


def test_numbers_stand_beside_behaviour(make: MakeRecord) -> None:
    """From 20 to 40: 20 of the 80 points to the target's 100."""
    text = markdown("t", rows(make, changed=0.3, after=40.0))
    assert "| npo | full | rtn-int4 | 0.0500 | 3.0 | 30.0% | 50.0% | 1.25 | +20.0 | 25% |" in text
    assert "yet" not in text.split("## What of the update")[1]


@pytest.mark.parametrize(
    ("changed", "after", "remark"),
    [
        (0.13, 24.0, "13% of the indices changed, yet it stayed unlearned"),
        (0.61, 60.0, "61% of the indices changed, and yet text came back"),
    ],
)
def test_the_uncomfortable_is_said(
    make: MakeRecord, changed: float, after: float, remark: str
) -> None:
    assert remark in markdown("t", rows(make, changed, after))


def test_no_section_without_a_measured_update(make: MakeRecord) -> None:
    table = build_table([make("npo")])
    assert "survives rounding" not in markdown("t", table)
    assert make_plots(table) == {}


def test_shares_of_a_block_are_weighted_by_size() -> None:
    """(100 · 0.4 + 300 · 0.2) / 400 = 0.25."""
    shares = share_by_block(SurvivalReport.model_validate(report(0.3)), "rtn-int4")
    assert shares == {0: pytest.approx(0.25), 1: pytest.approx(0.1)}


def test_a_number_that_is_none_is_missing(make: MakeRecord) -> None:
    """A move over a grid of step 0 has no size."""
    content = report(0.3)
    content["total"]["crossings"]["rtn-int4"]["largest_move"] = float("inf")
    record = make("npo", "rtn-int4").model_copy(update={"survival": content})
    assert "| 30.0% | 50.0% | — |" in markdown("t", build_table([record]))


def test_half_a_report_is_refused(make: MakeRecord) -> None:
    content = report(0.3)
    del content["total"]["effective_rank"]
    record = make("npo", "rtn-int4").model_copy(update={"survival": content})
    with pytest.raises(InputError, match=r"npo--full.*survival\.total\.effective_rank"):
        markdown("t", build_table([record]))


def test_plot_of_changed_indices(make: MakeRecord) -> None:
    """Block 0 at 25%, block 1 at 10%: 0% is at pixel 214, 25% at 50; layers from 48 to 448."""
    ((drawn,),) = make_plots(rows(make, 0.3, 40.0))["survival"].values()
    (line,) = (path for path in drawn.iter("path") if path.get("class") == "line full")
    assert line.get("d") == "M48 50L448 148.4"
