"""Filter of texts that share runs of words with others."""

import pytest

from quantizers.overlap import without_overlap, word_ngrams

ALPHABET = "a b c d e f g h i j k l m n o p q r s t u v w x y z"


def test_words_of_a_text():
    """Underscores and digits belong to words, apostrophes and dashes do not."""
    runs = word_ngrams("Don't x_1 - ÉTÉ", words=2)
    assert list(runs) == [("don", "t"), ("t", "x_1"), ("x_1", "été")]


@pytest.mark.parametrize(
    ("text", "exclude", "kept"),
    [
        ("one two three", "two three", True),  # 2 words in common
        ("one two three four", "zero one two three", False),  # 3 in a row
        ("one two three", "one two, four three", True),  # 3, but not in a row
        ("One, two: THREE!", "one two three", False),
        ("one two", "one two", True),  # too short for any
        ("", "one two three", True),
    ],
)
def test_texts_that_share_three_words_in_a_row_are_dropped(text, exclude, kept):
    assert without_overlap([text], [exclude], words=3) == [text] * kept


def test_thirteen_words_overlap_and_twelve_do_not():
    letters = ALPHABET.split()
    thirteen, twelve = " ".join(letters[5:18]), " ".join(letters[5:17])
    texts = [f"before {thirteen} after", f"before {twelve} after", "other words"]
    assert without_overlap(texts, [ALPHABET]) == texts[1:]


def test_ngrams_do_not_reach_from_one_text_into_the_next():
    assert without_overlap(["a b c"], ["a b", "c"], words=3) == ["a b c"]
    assert without_overlap(["a b", "c"], ["a b c"], words=3) == ["a b", "c"]
    assert without_overlap(["a b c"], [], words=3) == ["a b c"]
