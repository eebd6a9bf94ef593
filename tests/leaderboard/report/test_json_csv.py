"""``table.json`` and ``table.csv``."""

import csv
import io
import json
import math
from collections.abc import Callable

from leaderboard.records.schema import Metric, Record
from leaderboard.report.json_csv import Table, table_csv, table_json
from leaderboard.standings.published import read_published
from leaderboard.standings.table import build_table

MakeRecord = Callable[..., Record]
HOSTILE = "=cmd|'/C calc'!A0 \\input{x} & <b>\u202e"


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_csv_has_a_line_per_row(records: list[Record]) -> None:
    lines = read(table_csv(build_table(records)))
    assert len(lines) == 20
    (line,) = (
        x
        for x in lines
        if (x["corpus"], x["method"], x["precision"]) == ("news", "npo", "rtn-int4")
    )
    assert (line["kind"], line["verbmem"], line["verbmem_stderr"]) == ("measured", "20.0", "1.5")
    assert (line["recovery_verbmem"], line["verbmem_spread"], line["forgot"]) == ("0.0", "", "True")


def test_csv_of_a_hostile_method(make: MakeRecord) -> None:
    (line,) = read(table_csv(build_table([make(HOSTILE)])))
    assert line["method"] == "'" + HOSTILE.replace("\u202e", r"\u202e")


def test_json_follows_its_model(records: list[Record]) -> None:
    text = table_json("run", build_table(records), read_published(["news"]))
    table = Table.model_validate_json(text)
    assert text.isascii()
    assert len(table.rows) == 20
    assert {row.corpus for row in table.reported} == {"news"}
    (row,) = (r for r in table.rows if (r.corpus, r.method, r.precision) == ("news", "npo", "none"))
    assert row.values["verbmem"].mean == 20.0
    assert row.values["verbmem"].stderr == 1.5
    assert row.records == ["news--npo--full--none--seed0--" + row.records[0][-13:]]
    assert {column.key for column in table.columns} >= row.values.keys() - {"way_back_verbmem"}


def test_json_has_no_infinity(make: MakeRecord) -> None:
    """A metric, an error and a setting that JSON has no number for."""
    record = make("npo", values=(math.inf, 50.0, -50.0, 80.0), settings={"clip": math.inf})
    metrics = record.metrics | {"utility": Metric(value=80.0, stderr=math.nan)}
    text = table_json("t", build_table([record.model_copy(update={"metrics": metrics})]))

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    (row,) = json.loads(text, parse_constant=refuse)["rows"]
    assert "verbmem" not in row["values"]
    assert row["values"]["utility"]["stderr"] is None
    assert row["training"]["clip"] == "Infinity"
