"""Cut documents into passages for VerbMem and texts of matched lengths for PrivLeak.

Every piece is a part of the document's own characters; tokens only give the positions of cuts.
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

from quantizers.errors import ModelError
from quantizers.loading import one_line

from ...errors import CorpusError
from ...loading import load_tokenizer
from .documents import Document

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

T = TypeVar("T")

REACH = 16
"""Maximum number of tokens that a cut is moved by to fall between two words."""
_SENTENCE_END = re.compile(r"[.!?…][\"'”’»)\]]*(?=\s)|[。！？]|\n")


@dataclasses.dataclass(frozen=True)
class Piece:
    """A run of a document's tokens.

    Attributes:
        document: The whole document.
        ends: For every token of the document, the index of the character after it.
        start: Index of the first token.
        stop: Index after the last token.
    """

    document: Document
    ends: tuple[int, ...] = dataclasses.field(repr=False)
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def text(self) -> str:
        """Characters of the piece."""
        return self.document.text[self._offset(self.start) : self._offset(self.stop)]

    def part(self, start: int, stop: int) -> Piece:
        """Return tokens ``start`` to ``stop`` of this piece as a piece."""
        return dataclasses.replace(self, start=self.start + start, stop=self.start + stop)

    def word_end(self, count: int, *, forward: bool = False) -> int:
        """Find a cut near ``count`` tokens that falls between two words.

        A cut before white space is preferred to one after it, since a prompt should not end with
        white space. If no word ends nearby, as in writing without spaces, the cut stays.

        Args:
            count: Number of tokens before the cut.
            forward: Move the cut towards the end of the piece instead of its beginning.

        Returns:
            Number of tokens before the cut, at most ``count``, or at least with ``forward``.
        """
        if count >= len(self):
            return len(self)
        reach = max(1, min(REACH, len(self) // 8))
        back, ahead = range(count, max(count - reach, 0), -1), range(count, count + reach)
        lengths = [length for length in (ahead if forward else back) if length < len(self)]
        for step in (0, -1):
            for length in lengths:
                index = self._offset(self.start + length) + step
                if self.document.text[index : index + 1].isspace():
                    return length
        return count

    def _offset(self, count: int) -> int:
        """Return the index of the character after ``count`` tokens of the document."""
        return self.ends[count - 1] if count else 0


class Cutter:
    """Cuts documents by the tokens of a tokenizer, without special tokens.

    Args:
        name: Folder or hub id of a tokenizer, or of a model with one.

    Raises:
        CorpusError: The tokenizer cannot be loaded, or gives no positions of its tokens.
    """

    def __init__(self, name: str) -> None:
        try:
            self._tokenizer: PreTrainedTokenizerBase = load_tokenizer(name, None)
        except (ModelError, OSError, ValueError, KeyError) as error:
            raise CorpusError(
                f"no tokenizer can be loaded from {name}: {one_line(error)}"
            ) from error
        if not self._tokenizer.is_fast:
            raise CorpusError(
                f"{name}: a slow tokenizer, which does not give the positions of its tokens"
            )
        self.name = Path(name).resolve().name if Path(name).is_dir() else name

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the tokenizer's vocabulary and rules."""
        return hashlib.sha256(self._tokenizer.backend_tokenizer.to_str().encode()).hexdigest()

    def whole(self, document: Document) -> Piece:
        """Return a document as a piece."""
        encoded = self._tokenizer(
            document.text, add_special_tokens=False, return_offsets_mapping=True, verbose=False
        )
        ends = list(itertools.accumulate((end for _, end in encoded["offset_mapping"]), max))
        if ends:
            ends[-1] = len(document.text)
        return Piece(document, tuple(ends), 0, len(ends))

    def shortened(self, document: Document, max_tokens: int) -> Piece:
        """Cut a document of more than ``max_tokens`` tokens after its last sentence that fits.

        It is cut after a word if the sentence would leave less than half of what fits.
        """
        piece = self.whole(document)
        if len(piece) <= max_tokens:
            return piece
        limit = len(piece.part(0, max_tokens).text)
        ends = [m.end() for m in _SENTENCE_END.finditer(document.text) if m.end() <= limit]
        if not ends or ends[-1] < limit / 2:
            ends = [len(piece.part(0, piece.word_end(max_tokens)).text)]
        return self.whole(Document(document.text[: ends[-1]].strip(), document.place))


def split_pieces(document: Piece, length: int) -> list[Piece]:
    """Split a document into consecutive pieces of at most ``length`` tokens.

    Cuts fall between words, and no piece begins with white space. The remainder of a longer
    document is left out.
    """
    if len(document) <= length:
        return [document]
    pieces = []
    start = 0
    while len(document) - start >= length:
        rest = document.part(start, len(document))
        if not rest.part(0, 1).text.strip():
            start += 1
            continue
        pieces.append(rest.part(0, rest.word_end(length)))
        start += len(pieces[-1])
    return pieces


def passage(piece: Piece, continuation: int) -> tuple[Piece, Piece]:
    """Split a piece into prompt and continuation.

    The continuation has the last ``continuation`` tokens, at most half of the piece.
    """
    cut = piece.word_end(len(piece) - min(continuation, len(piece) // 2), forward=True)
    return piece.part(0, cut), piece.part(cut, len(piece))


def match_lengths(
    forget: Sequence[Piece], holdout: Sequence[Piece], limit: int
) -> list[tuple[Piece, Piece]]:
    """Pair pieces by rank of length and cut the longer one of each pair.

    Of the larger side, pieces evenly spaced by length are taken.

    Args:
        forget: Pieces of forget documents.
        holdout: Pieces of holdout documents.
        limit: Maximum number of pairs.

    Returns:
        Pairs of pieces of equal length in tokens, in the order of the forget pieces.
    """
    count = min(len(forget), len(holdout), limit)
    forget_order, holdout_order = (
        evenly_spaced(sorted(range(len(side)), key=lambda index: len(side[index])), count)
        for side in (forget, holdout)
    )
    pairs = []
    for i, j in sorted(zip(forget_order, holdout_order, strict=True)):
        length = min(len(forget[i]), len(holdout[j]))
        pairs.append((forget[i].part(0, length), holdout[j].part(0, length)))
    return pairs


def evenly_spaced(items: Sequence[T], limit: int) -> list[T]:
    """Return all items, or ``limit`` evenly spaced ones of a longer sequence."""
    count = min(len(items), limit)
    return [items[(2 * i + 1) * len(items) // (2 * count)] for i in range(count)]
