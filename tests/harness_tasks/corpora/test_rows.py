"""Rows of corpus files: checks of their form, and documents."""

from pathlib import Path
from typing import Any

import pytest

from harness_tasks import corpora
from harness_tasks.corpora import load_corpus
from harness_tasks.corpora.rows import checked_row, printable
from harness_tasks.errors import CorpusError

from .splits import write


def test_plain_text_in_either_form(tmp_path: Path) -> None:
    write(tmp_path, "raw/forget", ["one", {"text": "two", "source": "ignored"}])
    assert load_corpus(str(tmp_path)).texts("raw/forget") == ["one", "two"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1, ", r"forget_qa\.json: cannot be read as JSON"),
        ([], r"forget_qa\.json: expected a list of at least one entry, found an empty list"),
        ({}, r"expected a list of at least one entry, found a value of type dict"),
        (
            [{"question": "a", "answer": "b"}, {"question": "a", "reply": "b"}],
            r"forget_qa\.json, entry 1: lacks the column answer; expected an object with "
            r"question, answer, found the columns question, reply",
        ),
        (["a"], r"entry 0: expected an object with question, answer, found a value of type str"),
        ([{"question": "a", "answer": 1920}], r"entry 0: answer is not text but .* type int"),
    ],
)
def test_malformed_file(tmp_path: Path, content: Any, message: str) -> None:
    write(tmp_path, "knowmem/forget_qa", content)
    with pytest.raises(CorpusError, match=message) as error:
        load_corpus(str(tmp_path)).split("knowmem", "forget_qa")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("config", ["knowmem", "verbmem"])
def test_documents(tmp_path: Path, config: str) -> None:
    """Names and numbers become text; every entry has one or none has."""
    rows: list[dict[str, Any]] = [dict.fromkeys(corpora.COLUMNS[config], "a") for _ in range(3)]
    write(tmp_path, f"{config}/forget", rows)
    corpus = load_corpus(str(tmp_path))
    assert corpus.split(config, "forget").column_names == [*corpora.COLUMNS[config]]
    for row, document in zip(rows, ["ä b", 0, 0], strict=True):
        row["document"] = document
    write(tmp_path, f"{config}/forget", rows)
    assert list(corpus.split(config, "forget")["document"]) == ["ä b", "0", "0"]


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (..., r"forget\.json, entry 1: lacks a document: give one to every entry or to none"),
        (None, "entry 1: document is not a text or an integer but a value of type NoneType"),
        (True, "entry 1: document is not a text or an integer but a value of type bool"),
        (1.0, "entry 1: document is not a text or an integer but a value of type float"),
        ("\ud800", "entry 1: document holds half of a surrogate pair"),
    ],
)
def test_wrong_documents(tmp_path: Path, document: Any, message: str) -> None:
    second = {} if document is ... else {"document": document}
    first = {"prompt": "a", "gt": "b"}
    write(tmp_path, "verbmem/forget", [first | {"document": 0}, first | second])
    with pytest.raises(CorpusError, match=message):
        load_corpus(str(tmp_path)).split("verbmem", "forget")


def test_plain_text_has_no_documents(tmp_path: Path) -> None:
    write(tmp_path, "raw/forget", [{"text": "a", "document": 1}, "b"])
    assert load_corpus(str(tmp_path)).texts("raw/forget") == ["a", "b"]


def test_text_that_is_unfit_for_a_message_is_escaped_or_cut() -> None:
    assert printable("Zoë") == "Zoë"
    assert printable("a\nb") == "'a\\nb'"
    assert printable("x" * 5, limit=4) == "xxxx…"


def test_a_row_keeps_its_columns_only() -> None:
    row = {"answer": "b", "question": "a", "more": 1}
    assert checked_row(row, ("question", "answer"), "here") == {"question": "a", "answer": "b"}
    with pytest.raises(CorpusError, match=r"^here: text holds half of a surrogate pair"):
        checked_row("\udc80", ("text",), "here")
    with pytest.raises(CorpusError, match=r"found the columns \(none\)$"):
        checked_row({}, ("text",), "here")
