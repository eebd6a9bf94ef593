"""Data of requests for token log-probabilities."""

from __future__ import annotations

import dataclasses
from typing import Literal, TypedDict

from typing_extensions import Required

Statistic = Literal["greedy", "moments"]


class TokenOptions(TypedDict, total=False):
    """How a text is to be scored.

    Attributes:
        context: text that comes before and is not scored; without one, the first token is the
            only one that is not.
        truncate: cut what is longer than the model's context instead of refusing it.
        statistics: what is wanted beside the log-probabilities.
    """

    context: str
    truncate: bool
    statistics: list[Statistic]


class TokenLogprobs(TypedDict, total=False):
    """What a model gives for each scored token of a text, special tokens included.

    Attributes:
        logprobs: its natural log-probability given all tokens before it.
        truncated: whether the text was cut to what the model can hold.
        greedy: with ``"greedy"``, whether it is the most likely token.
        means: with ``"moments"``, the expected log-probability of a token at its place.
        deviations: with ``"moments"``, the standard deviation of the same.
    """

    logprobs: Required[list[float]]
    truncated: Required[bool]
    greedy: list[bool]
    means: list[float]
    deviations: list[float]


@dataclasses.dataclass
class EncodedText:
    """A text as token ids; requests that differ only in what they want of it share one.

    Attributes:
        ids: token ids, the context's first.
        first: index of the first token to score, at least 1.
        truncated: whether ``ids`` were cut to what the model can hold.
        statistics: what is wanted beside log-probabilities.
    """

    ids: list[int]
    first: int
    truncated: bool
    statistics: set[Statistic]
