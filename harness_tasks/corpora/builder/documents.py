"""Read a user's documents from plain text, JSON or JSON lines, and compare them."""

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

from quantizers.overlap import NGRAM_WORDS, word_ngrams
from unlearners.files import sha256

from ...errors import CorpusError
from ..rows import checked_row, printable, read_json

PLAIN = (".txt", ".md")
LINES = (".jsonl", ".ndjson")
SAME = 0.5
"""Minimum share of the shorter document's runs for two documents to be the same text."""


@dataclass(frozen=True)
class Document:
    """A text of the user.

    Attributes:
        text: Its text, without surrounding white space.
        place: Its position in the source: ``a.txt``, ``entry 2`` or ``line 3``.
    """

    text: str
    place: str


@dataclass(frozen=True)
class Source:
    """The documents of one side of a corpus.

    Attributes:
        name: Name of the file or folder.
        sha256: Digest of the file; for a folder, over the names and digests of the files read.
        documents: Documents in the order of the file or of the names, none empty or repeated.
        notes: Messages on what was left out.
    """

    name: str
    sha256: str
    documents: list[Document]
    notes: list[str]


def read_source(path: Path) -> Source:
    """Read documents and strip surrounding white space.

    Args:
        path: Folder of ``.txt`` and ``.md`` files (searched recursively) or a single one, with one
            document per file; or a ``.json`` list or ``.jsonl`` file of texts or ``{"text": …}``.

    Raises:
        CorpusError: The file is missing, of another kind or not UTF-8, or holds no document.
    """
    if path.is_dir():
        files, others = _plain_files(path)
        documents = [_document(_read_utf8(path / name), path, printable(name)) for name in files]
        digest = hashlib.sha256()
        for name in files:
            digest.update(os.fsencode(name) + b"\0" + bytes.fromhex(sha256(path / name)))
        identity = digest.hexdigest()
    else:
        others = []
        documents = list(_documents(path))
        identity = sha256(path)
    notes = []
    if others:
        names = abbreviate_list([printable(name) for name in others])
        notes.append(f"not read, because not .txt or .md: {names}")
    documents = _without_repeats(documents, notes)
    if not documents:
        raise CorpusError(f"{path}: no document in it; {'; '.join(notes) or 'it is empty'}")
    return Source(path.resolve().name, identity, documents, notes)


def read_rows(path: Path) -> Iterator[tuple[Any, str]]:
    """Yield the entries of a JSON list or of JSON lines, each with its position in the file.

    Raises:
        CorpusError: The file is missing or of another format.
    """
    if path.suffix.lower() == ".json":
        rows = read_json(path)
        if not isinstance(rows, list):
            raise CorpusError(f"{path}: expected a list; one object a line goes into a .jsonl file")
        yield from ((row, f"entry {number}") for number, row in enumerate(rows))
        return
    # not splitlines(), which also splits at U+2028; a JSON string may hold that
    for number, line in enumerate(_read_utf8(path).split("\n"), 1):
        if line.strip():
            try:
                yield json.loads(line), f"line {number}"
            except (ValueError, RecursionError) as error:
                raise CorpusError(
                    f"{path}, line {number}: cannot be read as JSON ({error})"
                ) from None


def check_overlap(sides: Mapping[str, Sequence[Document]]) -> list[str]:
    """Refuse a text that is on two sides of a corpus.

    Two documents are the same text if they share half of the shorter one's runs of 13 words (see
    `quantizers.overlap.word_ngrams`). A document of fewer words is a single run.

    Args:
        sides: Documents by ``forget``, ``retain``, ``holdout``.

    Returns:
        One warning for every pair of sides that share shorter passages.

    Raises:
        CorpusError: A document is on two sides; the message names both.
    """
    hashes = {
        side: [{hash(run) for run in _runs(document.text)} for document in documents]
        for side, documents in sides.items()
    }
    warnings = []
    for first, second in itertools.combinations(sides, 2):
        index_by_hash = {key: i for i, runs in enumerate(hashes[first]) for key in runs}
        places, passage = [], ""
        for document, runs in zip(sides[second], hashes[second], strict=True):
            common_runs = Counter(index_by_hash[key] for key in runs if key in index_by_hash)
            for i, count in sorted(common_runs.items()):
                twin = sides[first][i]
                share = count / min(len(runs), len(hashes[first][i]))
                if share >= SAME:
                    raise CorpusError(
                        f"{first}, {twin.place}, and {second}, {document.place}, have {share:.0%} "
                        "of their text in common: a text can be on one side only"
                    )
                places.append(f"{document.place} (with {twin.place})")
                if not passage:
                    passage = " ".join(
                        next(run for run in _runs(document.text) if hash(run) in index_by_hash)
                    )
        if places:
            warnings.append(
                f"{second} and {first} have {NGRAM_WORDS} words or more in common in "
                f"{abbreviate_list(places)}, for example {passage!r}"
            )
    return warnings


def normalised(text: str) -> str:
    """Return the text in lower case with single spaces, for comparisons."""
    return " ".join(text.casefold().split())


def abbreviate_list(names: Sequence[str], limit: int = 3) -> str:
    """Join at most ``limit`` names for a message, and give the total of a longer list."""
    rest = f", … ({len(names)} in all)" if len(names) > limit else ""
    return ", ".join(names[:limit]) + rest


def _plain_files(folder: Path) -> tuple[list[str], list[str]]:
    """List the names of the files to read and of other files, without hidden ones."""
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
        reason = "cannot tell how to read it" if path.exists() else "no such file or folder"
        raise CorpusError(f"{path}: {reason}; expected a folder or one of {kinds}")


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
    """Drop empty and repeated documents, and append a message on each kind to ``notes``."""
    empty: list[str] = []
    repeats: list[str] = []
    by_text: dict[str, Document] = {}
    for document in documents:
        if not document.text:
            empty.append(document.place)
        elif first := by_text.get(key := normalised(document.text)):
            repeats.append(f"{document.place} (as {first.place})")
        else:
            by_text[key] = document
    notes += [f"empty: {abbreviate_list(empty)}"] if empty else []
    notes += [f"the same text twice: {abbreviate_list(repeats)}"] if repeats else []
    return list(by_text.values())


def _runs(text: str) -> list[tuple[str, ...]]:
    return list(word_ngrams(text)) or [(normalised(text),)]
