"""Data types of requests for token log-probabilities."""

from __future__ import annotations

import dataclasses
from typing import Literal, TypedDict

from typing_extensions import Required

Statistic = Literal["greedy", "moments"]


class TokenOptions(TypedDict, total=False):
    """Options of scoring a text.

    Attributes:
        context: Text before it that is not scored; without one, only the first token is not.
        truncate: Cut a text longer than the model's context instead of refusing it.
        statistics: Statistics to compute in addition to log-probabilities.
    """

    context: str
    truncate: bool
    statistics: list[Statistic]


class TokenLogprobs(TypedDict, total=False):
    """Results for the scored tokens of a text, including special tokens.

    Attributes:
        logprobs: Log-probability of each token given all tokens before it, in nats.
        truncated: True if the text was cut to the model's context.
        greedy: With ``"greedy"``, True for each token that is the most likely one.
        means: With ``"moments"``, expected log-probability of a token at each position, in nats.
        deviations: With ``"moments"``, standard deviation of the log-probability, in nats.
    """

    logprobs: Required[list[float]]
    truncated: Required[bool]
    greedy: list[bool]
    means: list[float]
    deviations: list[float]


@dataclasses.dataclass
class EncodedText:
    """A text as token ids, shared by requests that differ only in their statistics.

    Attributes:
        ids: Token ids of context and text.
        first: Index of the first token to score, at least 1.
        truncated: True if ``ids`` were cut to the model's context.
        statistics: Statistics to compute in addition to log-probabilities.
    """

    ids: list[int]
    first: int
    truncated: bool
    statistics: set[Statistic]
