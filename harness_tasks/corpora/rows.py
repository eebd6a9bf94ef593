"""Read and check the rows of a corpus file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..errors import CorpusError

DOCUMENT = "document"
"""Optional column: document that an example is about; several examples may share it."""


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        CorpusError: The file is missing or cannot be read as JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CorpusError(f"{path}: no such file") from None
    # ValueError: bad JSON or bad UTF-8; RecursionError: lists in lists in lists …
    except (OSError, ValueError, RecursionError) as error:
        raise CorpusError(f"{path}: cannot be read as JSON ({error})") from None


def checked_rows(rows: Any, columns: tuple[str, ...], source: str) -> list[dict[str, str]]:
    """Check the rows of a split and reduce them to ``columns``.

    The column ``document`` is kept if every row has one, except in splits of plain text, where
    each text is a document itself.

    Args:
        rows: Content of the file.
        columns: Names of the columns, all of text.
        source: Name of the file, for messages.

    Returns:
        One dictionary of texts by column for every row.

    Raises:
        CorpusError: There is no row, one is malformed, or only some have a document.
    """
    if not isinstance(rows, list) or not rows:
        raise CorpusError(f"{source}: expected a list of at least one entry, found {_kind(rows)}")
    places = [f"{source}, entry {number}" for number in range(len(rows))]
    checked = [checked_row(row, columns, place) for row, place in zip(rows, places, strict=True)]
    if columns == ("text",):
        return checked
    without = [place for row, place in zip(rows, places, strict=True) if DOCUMENT not in row]
    if len(without) == len(rows):
        return checked
    if without:
        raise CorpusError(f"{without[0]}: lacks a {DOCUMENT}: give one to every entry or to none")
    return [
        {**texts, DOCUMENT: _document(row[DOCUMENT], place)}
        for texts, row, place in zip(checked, rows, places, strict=True)
    ]


def checked_row(row: Any, columns: tuple[str, ...], place: str) -> dict[str, str]:
    """Check one row and reduce it to ``columns``.

    Args:
        row: Mapping with at least these columns; a string stands for ``{"text": …}``.
        columns: Names of the columns, all of text.
        place: Position of the row in its file, for messages.

    Raises:
        CorpusError: A column is missing or not text.
    """
    if isinstance(row, str) and columns == ("text",):
        row = {"text": row}
    if not isinstance(row, dict):
        raise CorpusError(f"{place}: expected {_shape(columns)}, found {_kind(row)}")
    if missing := [column for column in columns if column not in row]:
        raise CorpusError(
            f"{place}: lacks the column {missing[0]}; expected {_shape(columns)}, "
            f"found the columns {', '.join(map(printable, list(row)[:10])) or '(none)'}"
        )
    for column in columns:
        if not isinstance(row[column], str):
            raise CorpusError(f"{place}: {column} is not text but {_kind(row[column])}")
        if not _is_unicode(row[column]):
            raise CorpusError(f"{place}: {column} holds half of a surrogate pair, which is no text")
    return {column: row[column] for column in columns}


def printable(text: str, limit: int = 100) -> str:
    """Make untrusted text safe for a message: truncated, and control characters escaped."""
    start = text if len(text) <= limit else f"{text[:limit]}…"
    return start if start.isprintable() else ascii(start)


def _document(value: Any, place: str) -> str:
    """Return the name or number of a document as text."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise CorpusError(f"{place}: {DOCUMENT} is not a text or an integer but {_kind(value)}")
    if isinstance(value, str) and not _is_unicode(value):
        raise CorpusError(f"{place}: {DOCUMENT} holds half of a surrogate pair, which is no text")
    return str(value)


def _is_unicode(text: str) -> bool:
    """True if the text can be encoded as UTF-8; surrogates, which JSON allows, cannot."""
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
