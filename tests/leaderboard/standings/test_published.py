"""Reference rows from publications: read, refused if wrong."""

from collections import Counter
from pathlib import Path

import pytest

from leaderboard.errors import InputError
from leaderboard.standings.published import FOLDER, read_published

HEADER = "source,corpus,method,finetuning,precision,verbmem,knowmem,privleak,utility"


def test_the_files_are_valid() -> None:
    """54 rows of three papers, 72 and 39 of a repository."""
    rows = read_published(["books", "news"])
    assert len(rows) == 54 + 72 + 39
    sources = Counter(row.source for row in rows)
    assert sources["arXiv:2602.13151 Table II"] == 32
    assert {row.finetuning for row in rows if row.rank is not None} == {"lora"}


def test_numbers_of_table_ii() -> None:
    (row,) = (
        row
        for row in read_published(["books"])
        if (row.source, row.method, row.finetuning, row.precision)
        == ("arXiv:2602.13151 Table II", "npo_gdr", "lora", "bf16")
    )
    assert (row.verbmem, row.knowmem, row.privleak, row.utility) == (22.67, 36.63, -60.07, 59.65)


def test_every_file_has_its_source_named() -> None:
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    for path in FOLDER.glob("*.csv"):
        assert f"`{path.name}`" in text


def test_only_the_corpora_asked_for() -> None:
    assert {row.corpus for row in read_published(["news"])} == {"news"}
    assert read_published(["demo"]) == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("x,news,npo,full,bf16,101,,,", "line 2: verbmem: "),
        ("x,news,npo,full,bf16,nan,,,", "line 2: verbmem: "),
        ("x,news,npo,full,bf16,,,-101,", "line 2: privleak: "),
        ("x,news,npo,qlora,bf16,1,,,", "line 2: finetuning: "),
        (",news,npo,full,bf16,1,,,", "line 2: source: "),
        ("x,news,npo,full,bf16,,,,", "line 2: none of verbmem, knowmem"),
        ("x,news,npo,full,bf16,1,,,,5", "line 2: "),
        (
            "x,news,npo,full,bf16,1,,,\nx,news,npo,full,bf16,1,,,",
            "line 3: the same row as .*line 2",
        ),
    ],
)
def test_a_wrong_row_is_refused(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "wrong.csv").write_text(f"{HEADER}\n{line}\n")
    with pytest.raises(InputError, match=message):
        read_published(["news"], tmp_path)
