"""Documents of a user: read, refused, and compared."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness_tasks.corpora.builder.documents import Document, check_overlap, read_source
from harness_tasks.errors import CorpusError

from .build_files import write


def test_a_folder_gives_a_document_a_file(tmp_path: Path) -> None:
    """Documents are in the order of the names, without BOM and Windows' line ends."""
    write(tmp_path / "b.txt", "second\r\n\r\nline\r\n")
    write(tmp_path / "a.MD", "\ufefffirst")
    write(tmp_path / "c" / "d.txt", "third")
    write(tmp_path / "c" / "scan.pdf", b"\xff")
    write(tmp_path / ".hidden.txt", b"\xff")
    source = read_source(tmp_path)
    assert source.documents == [
        Document("first", "a.MD"),
        Document("second\n\nline", "b.txt"),
        Document("third", "c/d.txt"),
    ]
    assert source.notes == ["not read, because not .txt or .md: c/scan.pdf"]


@pytest.mark.parametrize(
    ("name", "content", "place"),
    [
        ("a.json", ["one", {"text": "two", "id": 7}], "entry 1"),
        ("a.jsonl", [{"text": "one"}, {"text": "two"}], "line 2"),
        ("a.jsonl", '"one"\n\n{"text": "two"}\n', "line 3"),
    ],
)
def test_json_gives_a_document_an_entry(
    tmp_path: Path, name: str, content: Any, place: str
) -> None:
    documents = read_source(write(tmp_path / name, content)).documents
    assert [document.text for document in documents] == ["one", "two"]
    assert documents[1].place == place


def test_line_separators_within_a_json_string_end_no_line(tmp_path: Path) -> None:
    """JSON may hold U+2028 and U+0085 unescaped."""
    path = write(tmp_path / "a.jsonl", '{"text": "one\u2028two\u0085three"}\n')
    (document,) = read_source(path).documents
    assert document.text == "one\u2028two\u0085three"


def test_empty_and_repeated_documents_are_left_out_and_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", ["One text.", " \n", "two", "one   TEXT."])
    source = read_source(path)
    assert [document.text for document in source.documents] == ["One text.", "two"]
    assert source.notes == [
        "empty: entry 1",
        "the same text twice: entry 3 (as entry 0)",
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "sch\u00f6n".encode("latin-1"), r"a\.txt: not UTF-8 \(byte 3: .*iconv"),
        ("a.txt", "a\0b", r"a\.txt: not plain text: it holds a NUL character"),
        ("a.txt", " ", r"a\.txt: no document in it; empty: .*a\.txt"),
        ("a.json", '["\\ud800 a"]', r"a\.json, entry 0: text holds half of a surrogate pair"),
        ("a.json", {"text": "a"}, r"a\.json: expected a list; one object a line goes into a \.j"),
        ("a.json", [{"txt": "a"}], r"entry 0: lacks the column text; expected a text or an obj"),
        ("a.json", ["a", 7], r"a\.json, entry 1: expected a text or an object with text, found"),
        ("a.json", "[" * 200_000, r"a\.json: cannot be read as JSON"),
        ("a.jsonl", '{"text": "a"}\n{"text": ', r"a\.jsonl, line 2: cannot be read as JSON"),
        ("a.jsonl", "[" * 200_000, r"a\.jsonl, line 1: cannot be read as JSON"),
        ("a.pdf", b"\xff", r"a\.pdf: cannot tell how to read it; expected a folder or one of \.t"),
        ("a/scan.pdf", b"\xff", r"a: no document in it; not read, .*scan\.pdf"),
    ],
)
def test_what_cannot_be_read(tmp_path: Path, name: str, content: Any, message: str) -> None:
    write(tmp_path / name, content)
    with pytest.raises(CorpusError, match=message) as error:
        read_source(tmp_path / Path(name).parts[0])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["none.txt", "none.json", "none.jsonl", "none"])
def test_no_such_file(tmp_path: Path, name: str) -> None:
    with pytest.raises(CorpusError, match=f"{name}: no such file"):
        read_source(tmp_path / name)


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").symlink_to(write(tmp_path / "secret.txt", "secret"))
    with pytest.raises(CorpusError, match=r"a\.txt: a link that leads out of .*texts"):
        read_source(tmp_path / "texts")


def test_the_digest_of_a_folder_follows_names_and_content(tmp_path: Path) -> None:
    write(tmp_path / "a.txt", "one")
    first = read_source(tmp_path).sha256
    write(tmp_path / "other.pdf", "not read")
    assert read_source(tmp_path).sha256 == first
    (tmp_path / "a.txt").rename(tmp_path / "b.txt")
    assert read_source(tmp_path).sha256 != first


def test_a_files_name_does_nothing_to_a_terminal(tmp_path: Path) -> None:
    write(tmp_path / "\x1b[2J.txt", "one")
    write(tmp_path / "\u202etxt.exe", "two")
    source = read_source(tmp_path)
    assert source.documents == [Document("one", "'\\x1b[2J.txt'")]
    assert source.notes == ["not read, because not .txt or .md: '\\u202etxt.exe'"]


@settings(max_examples=100, deadline=None, database=None)
@given(
    content=st.one_of(
        st.binary(),
        st.lists(
            st.one_of(st.text(), st.integers(), st.dictionaries(st.text(), st.text())),
        ).map(lambda rows: json.dumps(rows).encode()),
        st.lists(st.fixed_dictionaries({"text": st.text(st.characters())})).map(
            lambda rows: "\n".join(map(json.dumps, rows)).encode()
        ),
    ),
    suffix=st.sampled_from([".txt", ".json", ".jsonl"]),
)
def test_any_file(tmp_path_factory: pytest.TempPathFactory, content: bytes, suffix: str) -> None:
    """The result is documents that can be written, or an error of one line with the file's name."""
    path = write(tmp_path_factory.getbasetemp() / f"anything{suffix}", content)
    try:
        documents = read_source(path).documents
    except CorpusError as error:
        assert f"anything{suffix}" in str(error)
        assert "\n" not in str(error)
    else:
        assert all(document.text.strip().encode() for document in documents)


WORDS = [f"word{n:03}" for n in range(200)]


def text(start: int, stop: int) -> str:
    return " ".join(WORDS[start:stop])


@pytest.mark.parametrize(
    "other",
    [
        text(0, 40).upper().replace(" ", "\n"),
        # 40 words are 28 runs of 13; words 0 to 25 are the first 14 of them, one half
        text(0, 26) + " " + text(100, 190),
        # the shorter one: 2 runs, one of them from the other document
        text(10, 23) + " new",
    ],
    ids=["in other letters", "half of it", "all but a word of a short one"],
)
def test_a_text_on_two_sides_is_refused(other: str) -> None:
    sides = {
        "forget": [Document("something else", "f1"), Document(text(0, 40), "f2")],
        "retain": [Document("unlike", "r1")],
        "holdout": [Document(other, "h1")],
    }
    with pytest.raises(CorpusError, match=r"^forget, f2, and holdout, h1, have \d+% of"):
        check_overlap(sides)


def test_short_texts_are_compared_as_a_whole() -> None:
    sides = {"forget": [Document("Call me.", "f")], "retain": [Document("call  me.", "r")]}
    with pytest.raises(CorpusError, match="forget, f, and retain, r, have 100%"):
        check_overlap(sides)
    sides["retain"] = [Document("call me. Soon.", "r")]
    assert check_overlap(sides) == []


def test_a_passage_on_two_sides_is_a_warning() -> None:
    """A warning names 13 words in common, not 12."""
    sides = {
        "forget": [Document(text(0, 60), "f")],
        "retain": [Document(text(48, 60) + " " + text(100, 150), "r")],
        "holdout": [Document(text(47, 60) + " " + text(150, 200), "h")],
    }
    (warning,) = check_overlap(sides)
    assert warning == (
        "holdout and forget have 13 words or more in common in h (with f), for example "
        f"'{text(47, 60)}'"
    )


SHARED = """
from harness_tasks.corpora.builder.documents import Document, check_overlap
words = [str(n) for n in range(400)]
first = [Document(" ".join(words[40 * n : 40 * n + 40]), str(n)) for n in range(10)]
parts = [" ".join([f"new{n}", *words[40 * n : 40 * n + 14]]) for n in range(10)]
print(check_overlap({"forget": first, "retain": [Document(" ".join(parts), "all")]}))
"""


def test_warnings_do_not_depend_on_pythons_hashes() -> None:
    """Every process hashes strings with another seed."""
    lines = {
        subprocess.run(
            [sys.executable, "-c", SHARED],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    (line,) = lines
    assert "all (with 0), all (with 1), all (with 2), … (10 in all)" in line
