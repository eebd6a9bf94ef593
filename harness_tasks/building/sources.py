"""A user's documents: read from plain text, JSON lines or a JSON list, and compared."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..corpora import CorpusError, checked_row, read_json

PLAIN = (".txt", ".md")
LINES = (".jsonl", ".ndjson")
SHINGLE = 13
"""Words in a row that two documents have in common only where one has them from the other."""
SAME = 0.5
"""Share of the shorter document's shingles from which on two documents are the same text."""


@dataclass(frozen=True)
class Document:
    """A text, and where it stands: ``texts/a.txt``, or ``texts.jsonl, line 3``."""

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
        found = [Document(_read_utf8(file), str(file)) for file in files]
        digest = hashlib.sha256()
        for file in files:
            digest.update(file.relative_to(path).as_posix().encode() + b"\0")
            digest.update(bytes.fromhex(sha256(file)))
        identity = digest.hexdigest()
    else:
        others = []
        found = list(_documents(path))
        identity = sha256(path)
    notes = [f"not read, because not .txt or .md: {some(others)}"] if others else []
    documents = _without_repeats([_checked(document) for document in found], notes)
    if not documents:
        raise CorpusError(f"{path}: no document in it; {'; '.join(notes) or 'it is empty'}")
    return Source(path.resolve().name, identity, documents, notes)


def read_rows(path: Path) -> Iterator[tuple[Any, str]]:
    """The entries of a JSON list or of JSON lines, each with its place.

    Raises:
        CorpusError: no such file, or not that.
    """
    if path.suffix.lower() == ".json":
        rows = read_json(path)
        if not isinstance(rows, list):
            raise CorpusError(f"{path}: expected a list; one object a line goes into a .jsonl file")
        yield from ((row, f"{path}, entry {number}") for number, row in enumerate(rows))
        return
    # not splitlines(): a JSON string may hold U+2028, which is a line's end for that
    for number, line in enumerate(_read_utf8(path).split("\n"), 1):
        if line.strip():
            place = f"{path}, line {number}"
            try:
                yield json.loads(line), place
            except (ValueError, RecursionError) as error:
                raise CorpusError(f"{place}: cannot be read as JSON ({error})") from None


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
    shingles = {
        side: [_shingles(document.text) for document in documents]
        for side, documents in sides.items()
    }
    warnings = []
    for one, other in itertools.combinations(sides, 2):
        where = {s: i for i, of in enumerate(shingles[one]) for s in of}
        touched = []
        for found, document in zip(shingles[other], sides[other], strict=True):
            for i, common in Counter(where[s] for s in found if s in where).items():
                twin = sides[one][i]
                share = common / min(len(found), len(shingles[one][i]))
                if share >= SAME:
                    raise CorpusError(
                        f"{twin.place} ({one}) and {document.place} ({other}) have {share:.0%} of "
                        "their text in common: a text can be on one side only"
                    )
                touched.append(f"{document.place} (with {twin.place})")
        if touched:
            warnings.append(
                f"{one} and {other} have passages in common, {SHINGLE} words or longer: "
                f"{some(touched)}"
            )
    return warnings


def sha256(path: Path) -> str:
    """Of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def normalised(text: str) -> str:
    """The text in lower case with single spaces, for comparisons."""
    return " ".join(text.casefold().split())


def some(names: Sequence[str], most: int = 3) -> str:
    """So many names as a message can bear."""
    rest = f", … ({len(names)} in all)" if len(names) > most else ""
    return ", ".join(names[:most]) + rest


def _plain_files(folder: Path) -> tuple[list[Path], list[str]]:
    """The files to read, and the names of others; hidden ones are neither."""
    root = folder.resolve()
    files, others = [], []
    for path in sorted(folder.rglob("*"), key=lambda path: path.relative_to(folder).as_posix()):
        name = path.relative_to(folder)
        if any(part.startswith(".") for part in name.parts) or path.is_dir():
            continue
        if path.suffix.lower() not in PLAIN:
            others.append(name.as_posix())
        elif not path.resolve().is_relative_to(root):
            raise CorpusError(f"{path}: a link that leads out of {folder}")
        else:
            files.append(path)
    return files, others


def _documents(path: Path) -> Iterator[Document]:
    suffix = path.suffix.lower()
    if suffix in PLAIN:
        yield Document(_read_utf8(path), str(path))
    elif suffix in (".json", *LINES):
        for row, place in read_rows(path):
            yield Document(checked_row(row, ("text",), place)["text"], place)
    else:
        kinds = ", ".join((*PLAIN, ".json", *LINES))
        there = "cannot tell how to read it" if path.exists() else "no such file or folder"
        raise CorpusError(f"{path}: {there}; expected a folder or one of {kinds}")


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


def _checked(document: Document) -> Document:
    if "\0" in document.text:
        raise CorpusError(f"{document.place}: not plain text: it holds a NUL character")
    try:
        document.text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise CorpusError(
            f"{document.place}: character {error.start} is half of a surrogate pair"
        ) from None
    return Document(document.text.strip(), document.place)


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


def _shingles(text: str) -> set[int]:
    words = normalised(text).split()
    count = max(1, len(words) - SHINGLE + 1)
    return {hash(tuple(words[i : i + SHINGLE])) for i in range(count)}
