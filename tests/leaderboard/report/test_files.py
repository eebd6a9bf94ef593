"""Files that `table` writes, and the answer of `table --check`."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from leaderboard.cli import app
from leaderboard.errors import InputError
from leaderboard.records import samples
from leaderboard.records.schema import Record, SuiteStage
from leaderboard.records.store import RunFolder

MakeRecord = Callable[..., Record]
MoveRecord = Callable[[str, Record], Record]


@pytest.fixture
def run(tmp_path: Path, records: list[Record]) -> Path:
    folder = RunFolder(tmp_path / "run", "run")
    for record in records:
        folder.write_record(record)
    return folder.path


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


def test_check_lists_stale_files(run: Path) -> None:
    CliRunner().invoke(app, ["table", str(run)])
    assert check(run) == (0, [])
    (run / "table.csv").write_text("edited by hand\n")
    (run / "recovery.svg").write_text("drawn by another version of matplotlib")
    (run / "table.md").unlink()
    before = {path.name: path.stat().st_mtime_ns for path in run.iterdir()}
    assert check(run) == (
        1,
        [f"missing: {run / 'table.md'}", f"differs: {run / 'table.csv'}"],
    )
    assert {path.name: path.stat().st_mtime_ns for path in run.iterdir()} == before


def test_check_skips_plots_in_the_page(run: Path) -> None:
    CliRunner().invoke(app, ["table", str(run)])
    page = run / "index.html"
    content = page.read_text()
    other = re.sub('"data:image/svg[^"]*"', '"data:image/svg+xml;base64,AAAA"', content)
    assert other != content
    page.write_text(other)
    assert check(run) == (0, [])
    page.write_text(content.replace("npo", "onp", 1))
    assert check(run) == (1, [f"differs: {page}"])


def test_check_sees_a_new_record(run: Path, make: MakeRecord, on: MoveRecord) -> None:
    CliRunner().invoke(app, ["table", str(run)])
    RunFolder(run, "run").write_record(on("news", make("npo", seed=1)))
    code, lines = check(run)
    assert code == 1
    assert f"differs: {run / 'index.html'}" in lines


def test_check_with_other_options(run: Path) -> None:
    CliRunner().invoke(app, ["table", str(run), "--with-published"])
    assert check(run, "--with-published") == (0, [])
    assert check(run)[0] == 1


def test_settings_of_one_method_are_distinguished(tmp_path: Path, make: MakeRecord) -> None:
    """In Markdown after the method, on the page below it."""
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


def test_a_run_of_suites_alone(tmp_path: Path, make: MakeRecord) -> None:
    """No row, but a section in Markdown and one on the page."""
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
    assert len((folder.path / "table.csv").read_text().splitlines()) == 1


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
