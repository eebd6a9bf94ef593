"""Rows, order and derived numbers of the table."""

import math
from collections.abc import Callable
from typing import Any

import pytest

from leaderboard.records.schema import ModelId, Record
from leaderboard.report.markdown import markdown
from leaderboard.standings.table import build_table

MakeRecord = Callable[..., Record]
Recorded = Callable[..., Record]
TARGET = (100.0, 80.0, -100.0, 80.0)
RETRAIN = (20.0, 30.0, 0.0, 78.0)
GOOD = (20.0, 30.0, -10.0, 80.0)
FAIR = (40.0, 50.0, -30.0, 70.0)


def names(records: list[Record]) -> list[tuple[str, str, str]]:
    return [(row.method, row.finetuning, row.precision) for row in build_table(records)]


def test_order(make: MakeRecord, references: list[Record]) -> None:
    """References, then by score at the lowest precision, those that did not forget after."""
    forgot_at_int4 = make("good", "rtn-int4", (20.0, 30.0, -90.0, 50.0))
    records = [
        make("useful", "none", (20.0, 30.0, 0.0, 80.0)),  # best unquantized, but …
        make("useful", "rtn-int4", (90.0, 75.0, 0.0, 80.0)),  # … everything came back
        make("good", "none", (30.0, 50.0, -90.0, 50.0)),
        forgot_at_int4,
        *references,
    ]
    assert [name[::2] for name in names(records)] == [
        ("target", "none"),
        ("target", "rtn-int4"),
        ("retrain", "none"),
        ("retrain", "rtn-int4"),
        ("good", "none"),
        ("good", "rtn-int4"),
        ("useful", "none"),
        ("useful", "rtn-int4"),
    ]


def test_recovery_is_against_the_same_checkpoint(
    make: MakeRecord, references: list[Record]
) -> None:
    records = [
        make("npo", "none", (30.0, 40.0, 0.0, 80.0)),
        make("npo", "rtn-int4", (45.0, 38.0, 0.0, 80.0)),
        *references,
    ]
    row = build_table(records)[-1]
    assert row.values["recovery_verbmem"].mean == pytest.approx(15.0)
    assert row.values["recovery_knowmem"].mean == pytest.approx(-2.0)


def test_seeds_give_mean_and_deviation(make: MakeRecord, references: list[Record]) -> None:
    """30 and 34: mean 32, sample standard deviation sqrt(8), of the mean 2.

    Both have an error of 1.5 from the same documents: √(1.5² + 2²) = 2.5.
    """
    records = [
        make("npo", "none", (value, 40.0, 0.0, 80.0), seed=seed)
        for seed, value in enumerate((30.0, 34.0))
    ]
    row = build_table(records + references)[-1]
    assert row.seeds == 2
    assert row.values["verbmem"].mean == 32.0
    assert row.values["verbmem"].spread == pytest.approx(8**0.5)
    assert row.values["verbmem"].stderr == pytest.approx(2.5)
    assert "32.0 ±2.5" in markdown("t", [row])


def test_a_failed_seed_leaves_no_mean(make: MakeRecord, references: list[Record]) -> None:
    records = [
        make("npo", "none", (30.0, 40.0, 0.0, 80.0)),
        make("npo", "none", (None,) * 4, seed=1, status="diverged", reason="loss is NaN"),
    ]
    row = build_table(records + references)[-1]
    assert row.values == {}
    assert row.notes == ("diverged: loss is NaN",)
    text = markdown("t", [row])
    assert "| npo | full | float32 | — | — | — | — | — | — | — | — |" in text
    assert "loss is NaN" in text


def test_no_score_without_references(make: MakeRecord) -> None:
    (row,) = build_table([make("npo", "rtn-int4")])
    assert set(row.values) == {"verbmem", "knowmem", "privleak", "utility"}
    assert row.forgot is None


@pytest.mark.parametrize("other", [{"limit": 5}, {"subset": "test"}, {"extra_tasks": ("arc",)}])
def test_another_evaluation_is_compared_with_its_own_references(
    make: MakeRecord, references: list[Record], other: dict[str, Any], recorded: Recorded
) -> None:
    """Utility 40 of the target's 80, and of 40 for the target with the same evaluation."""
    ours = make("npo", "rtn-int4", (20.0, 30.0, 0.0, 40.0))
    target = make("target", "rtn-int4", (100.0, 80.0, -100.0, 40.0))
    theirs = [recorded(record, **other) for record in (ours, target, references[3])]
    table = build_table([ours, *references, *theirs])
    rows = {row.board: row for row in table if row.method == "npo"}
    assert len({board.title for board in rows}) == 2
    first, second = rows.values()
    assert first.values["score"].mean == pytest.approx(100 * 2 / 3)  # harmonic mean of 1 and 1/2
    assert second.values["score"].mean == pytest.approx(100)
    assert first.seeds == second.seeds == 1


def test_each_method_has_its_own_target(
    make: MakeRecord, references: list[Record], recorded: Recorded
) -> None:
    """Two targets in one folder: utility 40 of 80, and of 50."""
    other = {"model": ModelId(name="another", revision="r")}
    records = [
        make("npo", "rtn-int4", (20.0, 30.0, 0.0, 40.0)),
        recorded(make("npo", "rtn-int4", (20.0, 30.0, 0.0, 40.0)), other),
        recorded(make("target", "rtn-int4", (100.0, 80.0, -100.0, 50.0)), other),
        *references,
    ]
    scores = [row.values["score"].mean for row in build_table(records) if row.method == "npo"]
    assert scores == [pytest.approx(100 * 2 * 0.8 / 1.8), pytest.approx(100 * 2 / 3)]


def test_two_retrained_models_are_none(
    make: MakeRecord, references: list[Record], recorded: Recorded
) -> None:
    other = {"model": ModelId(name="another", revision="r")}
    records = [make("npo", "rtn-int4"), recorded(references[3], other), *references]
    (row,) = (row for row in build_table(records) if row.method == "npo")
    assert "score" not in row.values
    assert row.forgot is None


def test_numbers_that_are_not_finite_are_missing(make: MakeRecord) -> None:
    record = make("npo", values=(math.inf, math.nan, -50.0, 80.0))
    (row,) = build_table([record])
    assert set(row.values) == {"privleak", "utility"}


def test_fewer_precisions_do_not_lift_a_method(make: MakeRecord, references: list[Record]) -> None:
    """The best unquantized comes last without its 4-bit record, and says why."""
    records = [make("fair", precision, FAIR) for precision in ("none", "rtn-int4")]
    rows = build_table([*references, *records, make("good", "none", GOOD)])
    assert [(row.method, row.ranked) for row in rows[4:]] == [
        ("fair", True),
        ("fair", True),
        ("good", False),
    ]
    assert rows[-1].notes == ("not ranked: no score at rtn-int4",)
    assert "news good full float32: not ranked: no score at rtn-int4" in markdown("t", rows)
    both = build_table(
        [*references, *records, *(make("good", p, GOOD) for p in ("none", "rtn-int4"))]
    )
    assert [row.method for row in both[4:]] == ["good", "good", "fair", "fair"]


def test_quantizers_with_equal_bits_have_equal_weight(
    make: MakeRecord, references: list[Record]
) -> None:
    """First by the alphabet (bnb-fp4) or not: the mean over both decides."""
    more = [
        make(role, "bnb-fp4", values) for role, values in (("target", TARGET), ("retrain", RETRAIN))
    ]
    uneven = [
        make("uneven", "none", GOOD),
        make("uneven", "bnb-fp4", GOOD),
        make("uneven", "rtn-int4", (20.0, 30.0, -10.0, 10.0)),
    ]
    even = [make("even", precision, FAIR) for precision in ("none", "bnb-fp4", "rtn-int4")]
    rows = build_table([*references, *more, *uneven, *even])
    scores = {(row.method, row.precision): row.values["score"].mean for row in rows[6:]}
    assert scores["uneven", "bnb-fp4"] > scores["even", "bnb-fp4"]
    assert next(row.method for row in rows if not row.is_reference) == "even"


def test_bits_are_the_quantizers_and_not_the_labels(
    make: MakeRecord, references: list[Record], recorded: Recorded
) -> None:
    """A 4-bit quantizer orders the board under any label."""
    renamed = [
        recorded(record, precision="g64") if record.is_quantized else record
        for record in (
            *references,
            *(make("good", p, v) for p, v in (("none", GOOD), ("rtn-int4", FAIR))),
            *(make("bad", p, v) for p, v in (("none", FAIR), ("rtn-int4", GOOD))),
        )
    ]
    rows = [row for row in build_table(renamed) if not row.is_reference]
    assert [(row.method, row.precision) for row in rows] == [
        ("bad", "none"),
        ("bad", "g64"),
        ("good", "none"),
        ("good", "g64"),
    ]


def test_the_gate_is_decided_before_quantization(
    make: MakeRecord, references: list[Record]
) -> None:
    """Damage by rounding is not forgetting: VerbMem 90 unquantized, 20 at int4."""
    records = [
        make("npo", "none", (90.0, 75.0, -50.0, 80.0)),
        make("npo", "rtn-int4", (20.0, 30.0, 0.0, 60.0)),
    ]
    rows = [row for row in build_table([*references, *records]) if row.method == "npo"]
    assert [row.forgot for row in rows] == [False, False]


def test_no_score_if_quantization_removed_the_text(make: MakeRecord) -> None:
    """VerbMem of the target 18.2 and of the retrained model 14.4, with errors of 1.5 each."""
    records = [
        make("target", "none", TARGET),
        make("retrain", "none", RETRAIN),
        make("target", "rtn-int4", (18.2, 75.0, -100.0, 58.0)),
        make("retrain", "rtn-int4", (14.4, 2.0, 0.0, 84.0)),
        make("npo", "none", GOOD),
        make("npo", "rtn-int4", (13.0, 20.0, -10.0, 50.0)),
    ]
    rows = build_table(records)
    quantized = rows[-1]
    assert not {"score", "forget_quality"} & quantized.values.keys()
    assert quantized.forgot is True
    assert quantized.ranked  # by the scores before quantization
    (note,) = rows[1].notes
    assert note == (
        "no forget quality at this precision: target and retrain differ by less than 2 standard "
        "errors in VerbMem (18.2 and 14.4)"
    )


def test_no_way_back_if_the_target_remembers_less(
    make: MakeRecord, references: list[Record]
) -> None:
    """The target has 18 at int4, the unlearned model 40 before: a fall is no recovery."""
    records = [
        *references[:2],
        make("target", "rtn-int4", (18.0, 80.0, -100.0, 80.0)),
        make("npo", "none", (40.0, 30.0, 0.0, 80.0)),
        make("npo", "rtn-int4", (30.0, 55.0, 0.0, 80.0)),
    ]
    row = build_table(records)[-1]
    assert row.values["recovery_verbmem"].mean == -10
    assert "way_back_verbmem" not in row.values
    assert row.values["way_back_knowmem"].mean == pytest.approx(0.5)


def test_bf16_is_the_baseline_without_an_unquantized_record(
    make: MakeRecord, references: list[Record]
) -> None:
    records = [make("npo", "bf16", (30.0, 40.0, 0.0, 80.0))]
    records.append(make("npo", "rtn-int4", (45.0, 38.0, 0.0, 80.0)))
    row = build_table([*references, *records])[-1]
    assert row.values["recovery_verbmem"].mean == pytest.approx(15)


def test_models_in_two_dtypes_are_compared_with_their_own(
    make: MakeRecord, recorded: Recorded
) -> None:
    def in_bfloat16(record: Record) -> Record:
        return recorded(record, {"dtype": "bfloat16"}).model_copy(update={"dtype": "bfloat16"})

    records = [
        make("target", "none", TARGET),
        make("retrain", "none", RETRAIN),
        make("npo", "none", (20.0, 30.0, 0.0, 40.0)),
        in_bfloat16(make("target", "none", (100.0, 80.0, -100.0, 40.0))),
        in_bfloat16(make("retrain", "none", RETRAIN)),
        in_bfloat16(make("npo", "none", (20.0, 30.0, 0.0, 40.0))),
    ]
    rows = {row.setting: row for row in build_table(records) if row.method == "npo"}
    assert rows["float32 model"].values["score"].mean == pytest.approx(100 * 2 / 3)
    assert rows["bfloat16 model"].values["score"].mean == pytest.approx(100)
