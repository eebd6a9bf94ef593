"""Documents in tokens: cut to passages for VerbMem and to texts of matched length for PrivLeak.

Every piece is a part of the document's own characters; tokens only say where to cut.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ...errors import CorpusError
from .documents import Document

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

T = TypeVar("T")

REACH = 16
"""Tokens that a cut may move by to fall between two words."""
_SENTENCE_END = re.compile(r"[.!?…][\"'”’»)\]]*(?=\s)|[。！？]|\n")


@dataclasses.dataclass(frozen=True)
class Piece:
    """A run of a document's tokens.

    Attributes:
        document: the whole of it.
        ends: for every token of the document, the index of the character behind it.
        start: first token of the piece.
        stop: the token behind its last.
    """

    document: Document
    ends: tuple[int, ...] = dataclasses.field(repr=False)
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def text(self) -> str:
        """The characters of the piece."""
        return self.document.text[self._behind(self.start) : self._behind(self.stop)]

    def part(self, start: int, stop: int) -> Piece:
        """Tokens ``start`` to ``stop`` of this piece, as a piece."""
        return dataclasses.replace(self, start=self.start + start, stop=self.start + stop)

    def word_end(self, count: int, *, forward: bool = False) -> int:
        """How many tokens to take for a cut near ``count`` to fall between two words.

        At most ``count`` of them, or at least with ``forward``. A cut before white space is
        preferred to one behind it, which a prompt should not end with; where no word ends near
        by, as in writing without spaces, it stays.
        """
        if count >= len(self):
            return len(self)
        reach = max(1, min(REACH, len(self) // 8))
        back, ahead = range(count, max(count - reach, 0), -1), range(count, count + reach)
        lengths = [length for length in (ahead if forward else back) if length < len(self)]
        for step in (0, -1):
            for length in lengths:
                at = self._behind(self.start + length) + step
                if self.document.text[at : at + 1].isspace():
                    return length
        return count

    def _behind(self, count: int) -> int:
        return self.ends[count - 1] if count else 0


class Cutter:
    """Cuts by the tokens of a tokenizer, special ones left out.

    Args:
        name: folder or hub id of a tokenizer, or of a model with one.

    Raises:
        CorpusError: none can be loaded from there, or it does not tell where its tokens stand.
    """

    def __init__(self, name: str) -> None:
        from quantizers.errors import ModelError
        from quantizers.loading import one_line

        from ...loading import load_tokenizer

        try:
            self._tokenizer: PreTrainedTokenizerBase = load_tokenizer(name, None)
        except (ModelError, OSError, ValueError, KeyError) as error:
            raise CorpusError(
                f"no tokenizer can be loaded from {name}: {one_line(error)}"
            ) from error
        if not self._tokenizer.is_fast:
            raise CorpusError(f"{name}: a slow tokenizer, which does not say where its tokens are")
        self.name = Path(name).resolve().name if Path(name).is_dir() else name

    @cached_property
    def sha256(self) -> str:
        """Of the tokenizer's vocabulary and rules."""
        return hashlib.sha256(self._tokenizer.backend_tokenizer.to_str().encode()).hexdigest()

    def whole(self, document: Document) -> Piece:
        """A document as a piece."""
        encoded = self._tokenizer(
            document.text, add_special_tokens=False, return_offsets_mapping=True, verbose=False
        )
        ends = list(itertools.accumulate((end for _, end in encoded["offset_mapping"]), max))
        if ends:
            ends[-1] = len(document.text)
        return Piece(document, tuple(ends), 0, len(ends))

    def shortened(self, document: Document, most: int) -> Piece:
        """A document of at most ``most`` tokens: cut behind its last sentence or line that fits.

        Behind a word, where that would leave less than half of what fits.
        """
        piece = self.whole(document)
        if len(piece) <= most:
            return piece
        limit = len(piece.part(0, most).text)
        ends = [m.end() for m in _SENTENCE_END.finditer(document.text) if m.end() <= limit]
        if not ends or ends[-1] < limit / 2:
            ends = [len(piece.part(0, piece.word_end(most)).text)]
        return self.whole(Document(document.text[: ends[-1]].strip(), document.place))


def pieces(document: Piece, length: int) -> list[Piece]:
    """The document, where it has at most ``length`` tokens; else as many such as it holds.

    They follow each other from its beginning, cut between words, none beginning with white space;
    what is left at the end is left out.
    """
    if len(document) <= length:
        return [document]
    found = []
    start = 0
    while len(document) - start >= length:
        rest = document.part(start, len(document))
        if not rest.part(0, 1).text.strip():
            start += 1
            continue
        found.append(rest.part(0, rest.word_end(length)))
        start += len(found[-1])
    return found


def passage(piece: Piece, continuation: int) -> tuple[Piece, Piece]:
    """Prompt and continuation: the last ``continuation`` tokens, at most half of the piece."""
    cut = piece.word_end(len(piece) - min(continuation, len(piece) // 2), forward=True)
    return piece.part(0, cut), piece.part(cut, len(piece))


def matched(
    forget: Sequence[Piece], holdout: Sequence[Piece], most: int
) -> list[tuple[Piece, Piece]]:
    """Pairs of one length: the shortest with the shortest, and so on, the longer one cut.

    There are as many pairs as the smaller side has pieces, and no more than ``most``; of a larger
    side, pieces evenly spaced by length. They stand in the order of the forget pieces.
    """
    count = min(len(forget), len(holdout), most)
    ranked = zip(_by_length(forget, count), _by_length(holdout, count), strict=True)
    pairs = sorted(ranked, key=lambda pair: pair[0][0])
    return [
        (one.part(0, length), other.part(0, length))
        for (_, one), (_, other) in pairs
        for length in [min(len(one), len(other))]
    ]


def spread(items: Sequence[T], most: int) -> list[T]:
    """Evenly spaced items, where there are more than ``most``."""
    count = min(len(items), most)
    return [items[(2 * i + 1) * len(items) // (2 * count)] for i in range(count)]


def _by_length(items: Sequence[Piece], count: int) -> list[tuple[int, Piece]]:
    """``count`` pieces, the shortest first, each with its place in ``items``."""
    return spread(sorted(enumerate(items), key=lambda item: len(item[1])), count)
