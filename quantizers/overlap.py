"""Filter for texts that share word n-grams with other texts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

NGRAM_WORDS = 13


def word_ngrams(text: str, words: int = NGRAM_WORDS) -> Iterator[tuple[str, ...]]:
    r"""Yield all runs of consecutive words of a text.

    A word is a maximal run of letters, digits and underscores (``\w+``) of the text in lower case;
    punctuation and white space only separate words.

    Args:
        text: Any text; one of fewer than ``words`` words has no runs.
        words: Length of a run in words.
    """
    tokens = re.findall(r"\w+", text.lower())
    return zip(*(tokens[start:] for start in range(words)), strict=False)


def without_overlap(
    texts: Iterable[str], exclude: Iterable[str], words: int = NGRAM_WORDS
) -> list[str]:
    """Select the texts that share no run of words (see `word_ngrams`) with any excluded text.

    Args:
        texts: Texts to select from.
        exclude: Texts to avoid.
        words: Length of a run in words.
    """
    # Hashes, for memory: among a million n-grams, one in 10^7 runs drops a text too many.
    seen = {hash(ngram) for text in exclude for ngram in word_ngrams(text, words)}
    return [text for text in texts if seen.isdisjoint(map(hash, word_ngrams(text, words)))]
