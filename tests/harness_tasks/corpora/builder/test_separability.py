"""Separability of forget and holdout texts without a model."""

from harness_tasks.corpora.builder.separability import measure_separability

WORDS = [f"word{n:03}" for n in range(200)]


def news(topic: str, n: int) -> str:
    others = " ".join(WORDS[(7 * n + 3 * i) % 200] for i in range(20))
    return f"{topic} {others} {topic}"


def test_topics_are_separable_and_similar_texts_are_not() -> None:
    topics = measure_separability(
        [news("boats", n) for n in range(12)], [news("goats", n) for n in range(12, 24)]
    )
    assert topics is not None
    assert topics.words.auc == 1
    assert topics.by_words
    assert topics.forget_words[0] == "boats"
    assert topics.holdout_words[0] == "goats"
    alike = measure_separability(*([news("boats", n) for n in range(odd, 24, 2)] for odd in (0, 1)))
    assert alike is not None
    assert not alike.by_words
    assert not alike.by_length


def test_length_alone_is_enough() -> None:
    """All holdout texts are shorter than all forget texts: AUC 0."""
    result = measure_separability(
        ["a b " * (30 + n) for n in range(10)], ["b a " * (10 + n) for n in range(10)]
    )
    assert result is not None
    assert (result.length.auc, result.length.stderr) == (0, 0)
    assert result.by_length


def test_too_few_texts_give_no_result() -> None:
    assert measure_separability(["a"] * 9, ["b"] * 50) is None
