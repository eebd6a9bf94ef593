"""Read a user's questions as the splits of ``knowmem``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from ...errors import CorpusError
from ..rows import DOCUMENT, printable
from .documents import Document, abbreviate_list, normalised, read_rows

IN_CONTEXT = 10
"""Number of answered questions in MUSE's prompt."""
SPLITS = ("forget", "retain")

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class Question(BaseModel):
    """One entry of the user's file.

    Attributes:
        question: A question that a document of the split answers.
        answer: Shortest correct answer.
        split: ``forget`` or ``retain``.
        icl: True to show the question with its answer in the prompt instead of asking it.
        document: Name or number of the document that the question is about; VerbMem's passages
            have the number of the forget document, from 0.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    question: Text
    answer: Text
    split: Literal["forget", "retain"]
    icl: bool = False
    document: str | int | None = None


@dataclass(frozen=True)
class Questions:
    """Question sets of a corpus.

    Attributes:
        splits: Rows by ``knowmem/forget_qa`` and the like.
        warnings: Messages on possible mistakes.
    """

    splits: dict[str, list[dict[str, Any]]]
    warnings: list[str]


def read_questions(path: Path, documents: Mapping[str, Sequence[Document]]) -> Questions:
    """Read and check questions.

    Args:
        path: ``.json`` list or ``.jsonl`` file.
        documents: Documents of ``forget`` and ``retain``, searched for the answers.

    Raises:
        CorpusError: An entry is not a ``Question``, a question is repeated, only some questions
            of a split name a document, or a split has no questions to ask or none to show.
    """
    if path.suffix.lower() not in (".json", ".jsonl", ".ndjson"):
        raise CorpusError(f"{path}: questions are a .json list or .jsonl")
    places: dict[str, str] = {}
    questions: list[tuple[Question, str]] = []
    for question, place in _entries(path):
        first = places.setdefault(normalised(question.question), place)
        if first != place:
            raise CorpusError(
                f"{path}, {place}: asks what {first} asks; a question is asked or shown once, of "
                "one split"
            )
        questions.append((question, place))
    splits: dict[str, list[dict[str, Any]]] = {}
    warnings = []
    for split in SPLITS:
        asked = [(q, place) for q, place in questions if q.split == split and not q.icl]
        shown = [(q, place) for q, place in questions if q.split == split and q.icl]
        if not asked or not shown:
            raise CorpusError(
                f'{path}: has {len(asked)} questions to ask with "split": "{split}", and '
                f'{len(shown)} to show before them, with "icl": true; MUSE has 100 and {IN_CONTEXT}'
            )
        if len(shown) < IN_CONTEXT:
            warnings.append(
                f"knowmem/{split}_qa_icl has {len(shown)} pairs, MUSE's prompt takes {IN_CONTEXT}: "
                f"lm_eval takes them with --num_fewshot {len(shown)}, a grid refuses the corpus"
            )
        text = "\n".join(normalised(document.text) for document in documents[split])
        absent = [place for q, place in asked if normalised(q.answer) not in text]
        if absent:
            warnings.append(
                f"{len(absent)} of {len(asked)} answers do not stand in the {split} documents: "
                f"{abbreviate_list(absent)}"
            )
        splits[f"knowmem/{split}_qa"] = _rows(asked, path)
        splits[f"knowmem/{split}_qa_icl"] = _rows(shown, path)
    return Questions(splits, warnings)


def _entries(path: Path) -> Iterator[tuple[Question, str]]:
    for row, place in read_rows(path):
        try:
            yield Question.model_validate(row), place
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            name = printable(".".join(map(str, first["loc"]))) or "entry"
            raise CorpusError(f"{path}, {place}: {name}: {first['msg']}") from None


def _rows(questions: Sequence[tuple[Question, str]], path: Path) -> list[dict[str, Any]]:
    """Make the rows of a file; either all questions name a document or none does."""
    rows = [{"question": q.question, "answer": q.answer} for q, _ in questions]
    without = [place for q, place in questions if q.document is None]
    if len(without) == len(rows):
        return rows
    if without:
        raise CorpusError(
            f"{path}, {without[0]}: lacks a {DOCUMENT}, which other questions of its kind have: "
            "give one to every question or to none"
        )
    return [row | {DOCUMENT: q.document} for row, (q, _) in zip(rows, questions, strict=True)]
