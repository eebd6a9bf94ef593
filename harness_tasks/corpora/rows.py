"""Rows of a corpus file: read from JSON and checked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..errors import CorpusError

DOCUMENT = "document"
"""Optional column: the document that an example is about, shared by several examples of it."""


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        CorpusError: there is none, or it cannot be read as JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CorpusError(f"{path}: no such file") from None
    # ValueError: bad JSON or bad UTF-8; RecursionError: lists in lists in lists …
    except (OSError, ValueError, RecursionError) as error:
        raise CorpusError(f"{path}: cannot be read as JSON ({error})") from None


def checked_rows(rows: Any, columns: tuple[str, ...], where: str) -> list[dict[str, str]]:
    """All rows of a split with exactly ``columns``, and ``document`` where every row has one.

    The texts of a split of plain text are documents themselves and get no such column.

    Args:
        rows: content of the file.
        columns: names of the columns, all of text.
        where: name of the file, for messages.

    Raises:
        CorpusError: there is no row, one is malformed, or only some have a document.
    """
    if not isinstance(rows, list) or not rows:
        raise CorpusError(f"{where}: expected a list of at least one entry, found {_kind(rows)}")
    places = [f"{where}, entry {number}" for number in range(len(rows))]
    checked = [checked_row(row, columns, place) for row, place in zip(rows, places, strict=True)]
    if columns == ("text",):
        return checked
    without = [place for row, place in zip(rows, places, strict=True) if DOCUMENT not in row]
    if len(without) == len(rows):
        return checked
    if without:
        raise CorpusError(f"{without[0]}: lacks a {DOCUMENT}: give one to every entry or to none")
    return [
        {**kept, DOCUMENT: _document(row[DOCUMENT], place)}
        for kept, row, place in zip(checked, rows, places, strict=True)
    ]


def checked_row(row: Any, columns: tuple[str, ...], where: str) -> dict[str, str]:
    """One row with exactly ``columns``; a bare string stands for ``{"text": …}``.

    Raises:
        CorpusError: naming ``where``: no such row.
    """
    if isinstance(row, str) and columns == ("text",):
        row = {"text": row}
    if not isinstance(row, dict):
        raise CorpusError(f"{where}: expected {_shape(columns)}, found {_kind(row)}")
    if missing := [column for column in columns if column not in row]:
        raise CorpusError(
            f"{where}: lacks the column {missing[0]}; expected {_shape(columns)}, "
            f"found the columns {', '.join(map(shown, list(row)[:10])) or '(none)'}"
        )
    for column in columns:
        if not isinstance(row[column], str):
            raise CorpusError(f"{where}: {column} is not text but {_kind(row[column])}")
        if not _is_unicode(row[column]):
            raise CorpusError(f"{where}: {column} holds half of a surrogate pair, which is no text")
    return {column: row[column] for column in columns}


def shown(text: str, most: int = 100) -> str:
    """Text of any origin as a message can bear it: short, and nothing that a terminal obeys."""
    start = text if len(text) <= most else f"{text[:most]}…"
    return start if start.isprintable() else ascii(start)


def _document(value: Any, where: str) -> str:
    """The name or number of a document, as text."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise CorpusError(f"{where}: {DOCUMENT} is not a text or an integer but {_kind(value)}")
    if isinstance(value, str) and not _is_unicode(value):
        raise CorpusError(f"{where}: {DOCUMENT} holds half of a surrogate pair, which is no text")
    return str(value)


def _is_unicode(text: str) -> bool:
    """True where the text can be written as UTF-8; JSON can spell surrogates, which cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _shape(columns: tuple[str, ...]) -> str:
    text = "a text or " if columns == ("text",) else ""
    return f"{text}an object with {', '.join(columns)}"


def _kind(value: Any) -> str:
    if isinstance(value, list) and not value:
        return "an empty list"
    return f"a value of type {type(value).__name__}"
