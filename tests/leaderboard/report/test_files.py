"""CSV, JSON and LaTeX; what `table` writes and `table --check` says of it."""

import csv
import io
import json
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from leaderboard.cli.app import app
from leaderboard.errors import InputError
from leaderboard.records import samples
from leaderboard.records.schema import Metric, Record, SuiteStage
from leaderboard.records.store import RunFolder
from leaderboard.report.json_csv import Table, table_csv, table_json
from leaderboard.report.latex import latex
from leaderboard.report.suites import folds_markdown
from leaderboard.standings.published import read_published
from leaderboard.standings.table import build_table

MakeRecord = Callable[..., Record]
HOSTILE = "=cmd|'/C calc'!A0 \\input{x} & <b>\u202e"


def on(corpus: str, record: Record) -> Record:
    """The record with its corpus under another name."""
    training = record.cell.training
    other = training.corpus.model_copy(update={"name": corpus, "fingerprint": corpus})
    training = training.model_copy(update={"corpus": other})
    return record.model_copy(update={"cell": record.cell.model_copy(update={"training": training})})


@pytest.fixture
def records(make: MakeRecord) -> list[Record]:
    """Two corpora; the target, the retrained model, two methods; `ga` did not forget."""
    values = {
        "target": (100.0, 80.0, -100.0, 80.0),
        "retrain": (20.0, 30.0, 0.0, 80.0),
        "npo": (20.0, 40.0, -50.0, 60.0),
        "simnpo": (30.0, 35.0, 40.0, 60.0),
        "ga": (90.0, 31.0, -10.0, 79.0),
    }
    return [
        on(corpus, make(method, precision, numbers))
        for corpus in ("books", "news")
        for precision in ("none", "rtn-int4")
        for method, numbers in values.items()
    ]


@pytest.fixture
def run(tmp_path: Path, records: list[Record]) -> Path:
    folder = RunFolder(tmp_path / "run", "run")
    for record in records:
        folder.write_record(record)
    return folder.path


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


def test_json_is_what_its_model_says(records: list[Record]) -> None:
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


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)&", line.removesuffix(r"\\"))]


def test_latex_is_laid_out_like_table_ii(records: list[Record]) -> None:
    """A line per method, finetuning and precision; four numbers of Books, then four of News."""
    lines = latex(build_table(records)).splitlines()
    assert lines[1] == r"\begin{table*}" and lines[-1] == r"\end{table*}"
    assert r"\begin{tabular}{lllrrrrrrrr}" in lines
    assert r" &  &  & \multicolumn{4}{c}{books} & \multicolumn{4}{c}{news} \\" in lines
    body = [line for line in lines if line.endswith(r"\\") and "multicolumn" not in line]
    assert {len(cells(line)) for line in body} == {11}
    labels = [cells(line)[:3] for line in body]
    assert labels[0][0] == "Method"
    assert labels[1:5] == [
        ["target", "---", "float32"],
        ["", "", "rtn-int4"],
        ["retrain", "---", "float32"],
        ["", "", "rtn-int4"],
    ]
    assert ["ga", "full", "float32"] in labels
    for rule in (r"\toprule", r"\midrule", r"\bottomrule"):
        assert rule in lines


def test_latex_bold_is_the_best_that_forgot(records: list[Record]) -> None:
    """VerbMem 20 against 30, KnowMem 40 against 35, |PrivLeak| 50 against 40, Utility 60 twice.

    `ga`, with the best utility, went 1/8 of the way in VerbMem: it did not forget.
    """
    text = latex(build_table(records))
    npo, simnpo, ga = (
        next(cells(line)[3:7] for line in text.splitlines() if line.startswith(f"{method} "))
        for method in ("npo", "simnpo", "ga")
    )
    error = r"{\tiny\,$\pm$\,1.5}"
    assert npo == [
        rf"\textbf{{20.0}}{error}",
        f"40.0{error}",
        f"$-$50.0{error}",
        rf"\textbf{{60.0}}{error}",
    ]
    assert simnpo == [
        f"30.0{error}",
        *(rf"\textbf{{{number}}}{error}" for number in ("35.0", "40.0", "60.0")),
    ]
    assert ga == [
        rf"90.0{error}\rlap{{*}}",
        f"31.0{error}",
        f"$-$10.0{error}",
        f"79.0{error}",
    ]


def test_latex_of_a_hostile_method(make: MakeRecord) -> None:
    text = latex(build_table([make(HOSTILE)]))
    assert text.isascii()
    assert r"\input" not in text
    assert r"\textbackslash{}input\{x\} \& \textless{}b" in text


def test_latex_shows_reported_rows_below(records: list[Record]) -> None:
    text = latex(build_table(records), read_published(["books", "news"]))
    measured, reported = text.split(r"\emph{Reported: arXiv:2602.13151 Table II}")
    assert r"npo\_klr & full & bf16 & 51.4 & 31.2 & $-$55.8 & 60.2 & 24.0" in reported
    assert r"\textbf" in measured
    assert r"\textbf" not in reported


def test_table_writes_every_form(run: Path) -> None:
    result = CliRunner().invoke(app, ["table", str(run)])
    assert result.exit_code == 0, result.output
    names = {path.name for path in run.iterdir() if path.is_file()}
    assert names == {
        *("run.json", "table.md", "table.csv", "table.tex", "table.json", "index.html"),
        *("forgetting.svg", "recovery.svg"),
    }
    assert "![Points gained by quantization](recovery.svg)" in (run / "table.md").read_text()


def test_the_same_records_give_the_same_bytes(run: Path, tmp_path: Path) -> None:
    """In another folder, with the records copied in another order."""
    CliRunner().invoke(app, ["table", str(run), "--with-published"])
    other = tmp_path / "other"
    (other / "records").mkdir(parents=True)
    shutil.copy(run / "run.json", other)
    for path in sorted((run / "records").iterdir(), reverse=True):
        shutil.copy(path, other / "records")
    CliRunner().invoke(app, ["table", str(other), "--with-published"])
    for path in run.glob("*.*"):
        assert path.read_bytes() == (other / path.name).read_bytes(), path.name


def check(run: Path, *options: str) -> tuple[int, list[str]]:
    result = CliRunner().invoke(app, ["table", str(run), "--check", *options])
    return result.exit_code, result.stdout.splitlines()


def test_check_names_what_is_not_current(run: Path) -> None:
    CliRunner().invoke(app, ["table", str(run)])
    assert check(run) == (0, [])
    (run / "table.csv").write_text("edited by hand\n")
    (run / "recovery.svg").unlink()  # a form that the folder does not keep
    (run / "table.md").unlink()
    before = {path.name: path.stat().st_mtime_ns for path in run.iterdir()}
    assert check(run) == (
        1,
        [f"missing: {run / 'table.md'}", f"differs: {run / 'table.csv'}"],
    )
    assert {path.name: path.stat().st_mtime_ns for path in run.iterdir()} == before


def test_check_sees_a_new_record(run: Path, make: Any) -> None:
    CliRunner().invoke(app, ["table", str(run)])
    RunFolder(run, "run").write_record(on("news", make("npo", seed=1)))
    code, lines = check(run)
    assert code == 1
    assert f"differs: {run / 'index.html'}" in lines


def test_check_with_other_options(run: Path) -> None:
    CliRunner().invoke(app, ["table", str(run), "--with-published"])
    assert check(run, "--with-published") == (0, [])
    assert check(run)[0] == 1


def test_settings_of_one_method_are_told_apart(tmp_path: Path, make: MakeRecord) -> None:
    """In Markdown behind the method, on the page below it."""
    folder = RunFolder(tmp_path / "run", "run")
    for epochs in (1, 5):
        folder.write_record(make("npo", settings={"epochs": epochs}))
    result = CliRunner().invoke(app, ["table", str(folder.path)])
    assert result.exit_code == 0, result.output
    table = (folder.path / "table.md").read_text()
    page = (folder.path / "index.html").read_text()
    for epochs in (1, 5):
        assert table.count(f"| npo \\[epochs {epochs}\\] |") == 1
        assert page.count(f'<span class="setting"><bdi>epochs {epochs}</bdi></span>') == 1


def test_a_run_of_folds_alone(tmp_path: Path, make: MakeRecord) -> None:
    """No row, but MUSE's last two ways: a section in Markdown and one on the page."""
    record = make("npo", settings={"epochs": 1})
    training = record.cell.training.model_copy(
        update={"stage": SuiteStage(suite="scal", number=1, parent=None)}
    )
    cell = record.cell.model_copy(update={"training": training})
    folder = RunFolder(tmp_path / "run", "run")
    folder.write_record(record.model_copy(update={"cell": cell}))
    result = CliRunner().invoke(app, ["table", str(folder.path)])
    assert result.exit_code == 0, result.output
    assert "## Scalability" in (folder.path / "table.md").read_text()
    assert "<h2>Scalability: four growing" in (folder.path / "index.html").read_text()
    assert len(read((folder.path / "table.csv").read_text())) == 0


def test_folds_evaluated_in_two_ways_are_two_lines(make: MakeRecord) -> None:
    record = make("npo")
    training = record.cell.training.model_copy(
        update={"stage": SuiteStage(suite="sust", number=1, parent=None)}
    )
    cells = [record.cell.model_copy(update={"training": training, "limit": n}) for n in (None, 5)]
    folds = [record.model_copy(update={"cell": cell}) for cell in cells]
    assert "| news, first 5 examples | npo |" in folds_markdown(folds)
    with pytest.raises(InputError, match="two records are of the same cell"):
        folds_markdown([folds[0], folds[0]])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (samples.compress(b"{}\n"), "not the answers that its record is about"),
        (b"no gzip", "not a whole gzip file"),
    ],
)
def test_answers_that_are_not_the_records(
    tmp_path: Path, make: MakeRecord, content: bytes, message: str
) -> None:
    folder = RunFolder(tmp_path / "run", "run")
    record = make("npo")
    answer = samples.Sample(task="verbmem", example=0, score=1.0)
    folder.write_record(record, [answer])
    folder.samples_path(record.cell).write_bytes(content)
    result = CliRunner().invoke(app, ["table", str(folder.path)])
    assert isinstance(result.exception, InputError)
    assert message in str(result.exception)
    assert not (folder.path / "index.html").exists()


def test_lines_that_are_no_answers(tmp_path: Path, make: MakeRecord) -> None:
    """The digest is right, the content is not."""
    folder = RunFolder(tmp_path / "run", "run")
    record = make("npo").model_copy(update={"samples": samples.sha256(b"{}\n")})
    folder.write_record(record)
    path = folder.samples_path(record.cell)
    path.parent.mkdir()
    path.write_bytes(samples.compress(b"{}\n"))
    result = CliRunner().invoke(app, ["table", str(folder.path)])
    assert isinstance(result.exception, InputError)
    assert "a line is not an answer" in str(result.exception)
