"""A user's questions, checked, as the splits of ``knowmem``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from ..rows import DOCUMENT, shown
from ...errors import CorpusError
from .documents import (
    Document,
    normalised,
    read_rows,
    some,
)

SHOWN = 10
"""Answered questions in a prompt of MUSE's."""
SPLITS = ("forget", "retain")

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class Question(BaseModel):
    """One entry of the user's file.

    Attributes:
        question: whose answer is in a document of its split.
        answer: the shortest text that is right.
        split: ``forget`` or ``retain``.
        icl: true where it is shown with its answer before the others, instead of being asked.
        document: name or number of the document that it is about, the same for all questions on
            it; VerbMem's passages have the number of the forget document, from 0.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    question: Text
    answer: Text
    split: Literal["forget", "retain"]
    icl: bool = False
    document: str | int | None = None


@dataclass(frozen=True)
class Questions:
    """The question sets.

    Attributes:
        splits: ``knowmem/forget_qa`` and so on, as rows.
        warnings: possible mistakes, for people.
    """

    splits: dict[str, list[dict[str, Any]]]
    warnings: list[str]


def read_questions(path: Path, documents: Mapping[str, Sequence[Document]]) -> Questions:
    """Read and check questions.

    Args:
        path: a ``.json`` list or ``.jsonl``.
        documents: of ``forget`` and ``retain``, where the answers are looked for.

    Raises:
        CorpusError: an entry is not a ``Question``, a question is repeated, only some questions
            of a split have a document, or a split has no questions to ask or none to show.
    """
    if path.suffix.lower() not in (".json", ".jsonl", ".ndjson"):
        raise CorpusError(f"{path}: questions are a .json list or .jsonl")
    places: dict[str, str] = {}
    found: list[tuple[Question, str]] = []
    for question, place in _entries(path):
        first = places.setdefault(normalised(question.question), place)
        if first != place:
            raise CorpusError(
                f"{path}, {place}: asks what {first} asks; a question is asked or shown once, of "
                "one split"
            )
        found.append((question, place))
    splits: dict[str, list[dict[str, Any]]] = {}
    warnings = []
    for split in SPLITS:
        asked = [(q, place) for q, place in found if q.split == split and not q.icl]
        shown = [(q, place) for q, place in found if q.split == split and q.icl]
        if not asked or not shown:
            raise CorpusError(
                f'{path}: has {len(asked)} questions to ask with "split": "{split}", and '
                f'{len(shown)} to show before them, with "icl": true; MUSE has 100 and {SHOWN}'
            )
        if len(shown) < SHOWN:
            warnings.append(
                f"knowmem/{split}_qa_icl has {len(shown)} pairs, MUSE's prompt takes {SHOWN}: "
                f"lm_eval takes them with --num_fewshot {len(shown)}, a grid refuses the corpus"
            )
        text = "\n".join(normalised(document.text) for document in documents[split])
        absent = [place for q, place in asked if normalised(q.answer) not in text]
        if absent:
            warnings.append(
                f"{len(absent)} of {len(asked)} answers do not stand in the {split} documents: "
                f"{some(absent)}"
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
            name = shown(".".join(map(str, first["loc"]))) or "entry"
            raise CorpusError(f"{path}, {place}: {name}: {first['msg']}") from None


def _rows(questions: Sequence[tuple[Question, str]], path: Path) -> list[dict[str, Any]]:
    """The rows of a file, with a document in all or in none."""
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
