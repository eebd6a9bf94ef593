"""Questions of a user: read, checked, and refused."""

from pathlib import Path
from typing import Any

import pytest

from harness_tasks.corpora.builder.documents import Document
from harness_tasks.corpora.builder.questions import read_questions
from harness_tasks.errors import CorpusError

from .build_files import write

DOCUMENTS = {
    "forget": [Document("Ada lives in\nBern and sells boats.", "f")],
    "retain": [Document("Bo lives in Cove.", "r")],
}


def question(split: str = "forget", n: int = 0, **changes: Any) -> dict[str, Any]:
    answer = "Cove" if split == "retain" else "in Bern"
    return {"question": f"{split} {n}?", "answer": answer, "split": split} | changes


def full_set() -> list[dict[str, Any]]:
    return [
        question(split, n, **({"icl": True} if n >= 2 else {}))
        for split in ("forget", "retain")
        for n in range(12)
    ]


def test_questions_by_split(tmp_path: Path) -> None:
    read = read_questions(write(tmp_path / "qa.jsonl", full_set()), DOCUMENTS)
    assert read.warnings == []
    assert {name: len(rows) for name, rows in read.splits.items()} == {
        "knowmem/forget_qa": 2,
        "knowmem/forget_qa_icl": 10,
        "knowmem/retain_qa": 2,
        "knowmem/retain_qa_icl": 10,
    }
    assert read.splits["knowmem/retain_qa"][1] == {"question": "retain 1?", "answer": "Cove"}


def test_documents_of_questions(tmp_path: Path) -> None:
    """They are kept unchanged; all questions of a file have one or none has."""
    rows = full_set()
    for n, row in enumerate(rows[:2]):
        row["document"] = ["the ferry", 7][n]
    path = write(tmp_path / "qa.jsonl", rows)
    splits = read_questions(path, DOCUMENTS).splits
    assert [row["document"] for row in splits["knowmem/forget_qa"]] == ["the ferry", 7]
    assert list(splits["knowmem/forget_qa_icl"][0]) == ["question", "answer"]

    del rows[0]["document"]
    path = write(tmp_path / "qa.jsonl", rows)
    with pytest.raises(CorpusError, match=r"qa\.jsonl, line 1: lacks a document, which other q"):
        read_questions(path, DOCUMENTS)


def test_absent_answers_and_few_examples_are_warnings(tmp_path: Path) -> None:
    rows = [*full_set()[:-7], question(n=50, answer="Rome"), question(n=51, answer="IN  BERN")]
    path = write(tmp_path / "qa.json", rows)
    assert read_questions(path, DOCUMENTS).warnings == [
        "1 of 4 answers do not stand in the forget documents: entry 17",
        "knowmem/retain_qa_icl has 3 pairs, MUSE's prompt takes 10: lm_eval takes them with "
        "--num_fewshot 3, a grid refuses the corpus",
    ]


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (question(n=50, split="forgot"), r"line 25: split: Input should be 'forget' or 'retain'"),
        (question(n=50, ICL=True), r"line 25: ICL: Extra inputs are not permitted"),
        (question(n=50, icl="yes"), r"line 25: icl: Input should be a valid boolean"),
        (question(n=50, answer=" "), r"line 25: answer: String should have at least 1 character"),
        (question(n=50, answer=7), r"line 25: answer: Input should be a valid string"),
        (question(n=50, document=True), r"line 25: document\.str: Input should be a valid string"),
        ({"question": "a?", "split": "forget"}, r"line 25: answer: Field required"),
        (question(n=50, **{"\n\x1b": 1}), r"line 25: '\\n\\x1b': Extra inputs are not permitted"),
        ("a?", r"line 25: entry: Input should be a valid dictionary"),
        (question(n=3), r"line 25: asks what line 4 asks"),
        (question("retain", question="FORGET  0?"), r"line 25: asks what line 1 asks"),
    ],
)
def test_wrong_questions(tmp_path: Path, extra: Any, message: str) -> None:
    path = write(tmp_path / "qa.jsonl", [*full_set(), extra])
    with pytest.raises(CorpusError, match=message) as error:
        read_questions(path, DOCUMENTS)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (full_set()[:12], 'has 0 questions to ask with "split": "retain", and 0 to show'),
        (full_set()[:2], 'has 2 questions to ask with "split": "forget", and 0 to show'),
    ],
)
def test_both_splits_need_both_kinds(tmp_path: Path, rows: Any, message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        read_questions(write(tmp_path / "qa.jsonl", rows), DOCUMENTS)


def test_questions_as_plain_text(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"qa\.txt: questions are a \.json list or \.jsonl"):
        read_questions(write(tmp_path / "qa.txt", "Who? She."), DOCUMENTS)
