"""Documents cut into passages and texts of matched lengths."""

import itertools
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness_tasks.corpora.builder.cutting import (
    Cutter,
    Piece,
    evenly_spaced,
    match_lengths,
    passage,
    split_pieces,
)
from harness_tasks.corpora.builder.documents import Document
from harness_tasks.errors import CorpusError


def by_word(words: str, *, after: bool = False) -> Piece:
    """Make one token per word; a space belongs to the next word, or with ``after`` to its own."""
    steps = [len(word) + 1 for word in words.split()]
    ends = [end if after else end - 1 for end in itertools.accumulate(steps)]
    ends[-1] = len(words)
    return Piece(Document(words, "here"), tuple(ends), 0, len(ends))


def test_a_piece_is_text_between_tokens() -> None:
    piece = by_word("one two three four")
    assert piece.part(1, 3).text == " two three"
    assert piece.part(1, 4).part(1, 2).text == " three"
    assert len(piece.part(1, 3)) == 2


def test_a_cut_falls_between_words() -> None:
    """Tokens of two characters in "abcdefg hij…": token 4 ends a word, 5 and 6 do not.

    Of 40 tokens a cut may move by 5.
    """
    words = "abcdefgh " + "i" * 71
    piece = Piece(Document(words, ""), tuple(range(2, 81, 2)), 0, 40)
    assert piece.word_end(4) == 4
    assert piece.word_end(6) == 4
    assert piece.word_end(2, forward=True) == 4
    assert piece.word_end(20) == 20
    assert piece.word_end(40) == piece.word_end(50) == 40


def test_a_cut_before_white_space_is_preferred() -> None:
    piece = by_word("one two three four five six seven eight", after=True)
    assert piece.part(0, piece.word_end(3)).text == "one two three "
    spaces = Piece(Document("one two three fo", ""), (3, 4, 7, 8, *range(9, 17)), 0, 12)
    # after "one", not after "one "; of 12 tokens a cut moves by 1 at most, so this one stays
    assert spaces.part(0, spaces.word_end(1)).text == "one"


def test_long_documents_give_as_many_pieces_as_they_hold() -> None:
    """Of 7 words: 3 and 3, with the last one left out; a length of 7 or more keeps the document."""
    piece = by_word("a b c d e f g")
    assert [part.text for part in split_pieces(piece, 3)] == ["a b c", " d e f"]
    assert split_pieces(piece, 7) == split_pieces(piece, 8) == [piece]


@pytest.mark.parametrize(
    ("continuation", "prompt", "rest"),
    [(2, "a b c d", " e f"), (3, "a b c", " d e f"), (128, "a b c", " d e f")],
)
def test_the_continuation_is_half_at_most(continuation: int, prompt: str, rest: str) -> None:
    first, second = passage(by_word("a b c d e f"), continuation)
    assert (first.text, second.text) == (prompt, rest)


def test_texts_of_one_length() -> None:
    """Forget 6, 2, 4 and holdout 3, 9, 5, 1, 7 words.

    Three of the five holdout texts in order of length, 1 3 5 7 9, are the 1st, 3rd and 5th
    (positions (2i + 1) · 5 / 6 = 0, 2, 4). So 2 with 1, 4 with 5, 6 with 9: lengths 1, 4, 6, in
    the order of the forget texts.
    """
    numbers = "a b c d e f g h i".split()
    forget = [by_word(" ".join(numbers[:n])) for n in (6, 2, 4)]
    holdout = [by_word(" ".join(numbers[-n:])) for n in (3, 9, 5, 1, 7)]
    pairs = match_lengths(forget, holdout, 100)
    assert [(one.text, other.text) for one, other in pairs] == [
        ("a b c d e f", "a b c d e f"),
        ("a", "i"),
        ("a b c d", "e f g h"),
    ]
    assert [len(one) for one, _ in match_lengths(forget, holdout, 1)] == [4]


def test_evenly_spaced() -> None:
    assert evenly_spaced("abcdefgh", 4) == ["b", "d", "f", "h"]  # type: ignore[comparison-overlap]
    assert evenly_spaced([1, 2], 4) == [1, 2]


@pytest.fixture
def cutter(either: Any, tmp_path: Path) -> Cutter:
    either[0].save_pretrained(tmp_path / "tokenizer")
    return Cutter(str(tmp_path / "tokenizer"))


def test_cut_text_is_the_documents_own(cutter: Cutter) -> None:
    """It is, also with characters of several tokens."""

    @settings(max_examples=60, deadline=None, database=None)
    @given(st.text(st.sampled_from("ab é😀日\u0301\n.,\u00a0"), min_size=1), st.integers(1, 9))
    def check(words: str, length: int) -> None:
        document = Document(words.strip() or "a", "here")
        whole = cutter.whole(document)
        assert whole.text == document.text
        parts = split_pieces(whole, length)
        left = document.text
        for part in parts:
            start = left.index(part.text)
            assert not left[:start].strip()
            left = left[start + len(part.text) :]
            assert part.text.strip()
        assert all(0 < len(part) <= max(length, 1) for part in parts)
        if len(whole) >= 2:
            prompt, rest = passage(whole, length)
            assert prompt.text + rest.text == document.text
            assert len(rest) <= length
            assert len(prompt) > 0
        short = cutter.shortened(document, length)
        assert document.text.startswith(short.text)

    check()


def test_documents_end_with_a_sentence(cutter: Cutter) -> None:
    words = 'One thing. "Two things!" Three things, and more of them'
    document = Document(words, "here")

    def cut(text: str) -> str:
        """Cut after as many tokens as ``text`` has."""
        return cutter.shortened(document, len(cutter.whole(Document(text, "")))).text

    assert cut(words) == words
    assert cut('One thing. "Two things!" Three') == 'One thing. "Two things!"'
    # the last sentence that fits ends in the first half: cut after a word
    assert cut("One thing. Two things Three things").startswith('One thing. "Two')


def test_missing_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=f"no tokenizer can be loaded from {tmp_path}") as error:
        Cutter(str(tmp_path))
    assert "\n" not in str(error.value)
