"""A user's documents: read from plain text, JSON lines or a JSON list, and compared."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unlearners.files import sha256

from ...errors import CorpusError
from ..rows import checked_row, read_json, shown

PLAIN = (".txt", ".md")
LINES = (".jsonl", ".ndjson")
RUN = 13
"""Words in a row that two documents have in common only where one has them from the other."""
SAME = 0.5
"""Share of the shorter document's runs from which on two documents are the same text."""


@dataclass(frozen=True)
class Document:
    """A text, and where in its source it stands: ``a.txt``, ``entry 2`` or ``line 3``."""

    text: str
    place: str


@dataclass(frozen=True)
class Source:
    """What one side of a corpus is made from.

    Attributes:
        name: of the file or folder.
        sha256: of the file; of a folder, over the names and digests of the files read.
        documents: in the order of the file, or of the names; none empty, none twice.
        notes: what was left out, for people.
    """

    name: str
    sha256: str
    documents: list[Document]
    notes: list[str]


def read_source(path: Path) -> Source:
    """Read documents, without the white space around them.

    Args:
        path: a folder of ``.txt`` and ``.md`` files, folders in it included, or one such file: a
            document each. Or a ``.json`` list of texts or of ``{"text": …}``, or the same as
            ``.jsonl``, one a line.

    Raises:
        CorpusError: no such file, another kind of file, not UTF-8, or no document in it.
    """
    if path.is_dir():
        files, others = _plain_files(path)
        found = [_document(_read_utf8(path / name), path, shown(name)) for name in files]
        digest = hashlib.sha256()
        for name in files:
            digest.update(os.fsencode(name) + b"\0" + bytes.fromhex(sha256(path / name)))
        identity = digest.hexdigest()
    else:
        others = []
        found = list(_documents(path))
        identity = sha256(path)
    notes = (
        [f"not read, because not .txt or .md: {some([shown(name) for name in others])}"]
        if others
        else []
    )
    documents = _without_repeats(found, notes)
    if not documents:
        raise CorpusError(f"{path}: no document in it; {'; '.join(notes) or 'it is empty'}")
    return Source(path.resolve().name, identity, documents, notes)


def read_rows(path: Path) -> Iterator[tuple[Any, str]]:
    """The entries of a JSON list or of JSON lines, each with its place in the file.

    Raises:
        CorpusError: no such file, or not that.
    """
    if path.suffix.lower() == ".json":
        rows = read_json(path)
        if not isinstance(rows, list):
            raise CorpusError(f"{path}: expected a list; one object a line goes into a .jsonl file")
        yield from ((row, f"entry {number}") for number, row in enumerate(rows))
        return
    # not splitlines(): a JSON string may hold U+2028, which is a line's end for that
    for number, line in enumerate(_read_utf8(path).split("\n"), 1):
        if line.strip():
            try:
                yield json.loads(line), f"line {number}"
            except (ValueError, RecursionError) as error:
                where = f"{path}, line {number}"
                raise CorpusError(f"{where}: cannot be read as JSON ({error})") from None


def refuse_shared(sides: Mapping[str, Sequence[Document]]) -> list[str]:
    """Refuse a text that stands in two sides of a corpus.

    Two documents are the same text where half of the shorter one's runs of 13 words, in any
    case and white space, stand in the other; a shorter document counts as one run.

    Args:
        sides: documents by ``forget``, ``retain``, ``holdout``.

    Returns:
        a warning for every pair of sides with less than that in common.

    Raises:
        CorpusError: naming both places.
    """
    hashes = {
        side: [{hash(run) for run in _runs(document.text)} for document in documents]
        for side, documents in sides.items()
    }
    warnings = []
    for one, other in itertools.combinations(sides, 2):
        where = {key: i for i, found in enumerate(hashes[one]) for key in found}
        places, passage = [], ""
        for document, found in zip(sides[other], hashes[other], strict=True):
            for i, common in sorted(Counter(where[k] for k in found if k in where).items()):
                twin = sides[one][i]
                share = common / min(len(found), len(hashes[one][i]))
                if share >= SAME:
                    raise CorpusError(
                        f"{one}, {twin.place}, and {other}, {document.place}, have {share:.0%} of "
                        "their text in common: a text can be on one side only"
                    )
                places.append(f"{document.place} (with {twin.place})")
                passage = passage or next(r for r in _runs(document.text) if hash(r) in where)
        if places:
            warnings.append(
                f"{other} and {one} have {RUN} words or more in common in {some(places)}, for "
                f"example {passage!r}"
            )
    return warnings


def normalised(text: str) -> str:
    """The text in lower case with single spaces, for comparisons."""
    return " ".join(text.casefold().split())


def some(names: Sequence[str], most: int = 3) -> str:
    """So many names as a message can bear."""
    rest = f", … ({len(names)} in all)" if len(names) > most else ""
    return ", ".join(names[:most]) + rest


def _plain_files(folder: Path) -> tuple[list[str], list[str]]:
    """Names of the files to read, and of others; hidden ones are neither."""
    root = folder.resolve()
    files, others = [], []
    for path in folder.rglob("*"):
        name = path.relative_to(folder)
        if any(part.startswith(".") for part in name.parts) or path.is_dir():
            continue
        if path.suffix.lower() not in PLAIN:
            others.append(name.as_posix())
        elif not path.resolve().is_relative_to(root):
            raise CorpusError(f"{path}: a link that leads out of {folder}")
        else:
            files.append(name.as_posix())
    return sorted(files), sorted(others)


def _documents(path: Path) -> Iterator[Document]:
    suffix = path.suffix.lower()
    if suffix in PLAIN:
        yield _document(_read_utf8(path), path, path.name)
    elif suffix in (".json", *LINES):
        for row, place in read_rows(path):
            text = checked_row(row, ("text",), f"{path}, {place}")["text"]
            yield _document(text, path, place)
    else:
        kinds = ", ".join((*PLAIN, ".json", *LINES))
        there = "cannot tell how to read it" if path.exists() else "no such file or folder"
        raise CorpusError(f"{path}: {there}; expected a folder or one of {kinds}")


def _document(text: str, source: Path, place: str) -> Document:
    if "\0" in text:
        raise CorpusError(f"{source}, {place}: not plain text: it holds a NUL character")
    return Document(text.strip(), place)


def _read_utf8(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise CorpusError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise CorpusError(
            f"{path}: not UTF-8 (byte {error.start}: {error.reason}); convert it, for example "
            "with iconv"
        ) from None
    except OSError as error:
        raise CorpusError(f"{path}: cannot be read ({error.strerror})") from None


def _without_repeats(documents: list[Document], notes: list[str]) -> list[Document]:
    """The documents that say something, and something new; ``notes`` takes what is left out."""
    empty: list[str] = []
    repeats: list[str] = []
    kept: dict[str, Document] = {}
    for document in documents:
        if not document.text:
            empty.append(document.place)
        elif first := kept.get(key := normalised(document.text)):
            repeats.append(f"{document.place} (as {first.place})")
        else:
            kept[key] = document
    notes += [f"empty: {some(empty)}"] if empty else []
    notes += [f"the same text twice: {some(repeats)}"] if repeats else []
    return list(kept.values())


def _runs(text: str) -> Iterator[str]:
    words = normalised(text).split()
    for start in range(max(1, len(words) - RUN + 1)):
        yield " ".join(words[start : start + RUN])
