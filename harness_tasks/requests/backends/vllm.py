"""Log-probabilities from vLLM: those it gives for the tokens of a prompt."""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import Any

from ...errors import RequestError
from ..types import EncodedText, Statistic, TokenLogprobs


def check(lm: Any, statistics: Set[Statistic]) -> None:
    """Refuse statistics for which the whole distribution is needed.

    Raises:
        RequestError: moments are wanted.
    """
    if "moments" in statistics:
        raise RequestError(
            "Min-K%++ needs the whole distribution at every token, which vLLM does not give: "
            "evaluate with --model hf"
        )


def max_tokens(lm: Any, longest: int) -> int:
    """The context less one: vLLM always generates a token."""
    return lm.max_length - 1


def score(lm: Any, texts: Sequence[EncodedText]) -> list[TokenLogprobs]:
    """Score every text; vLLM schedules them itself.

    With ``prompt_logprobs=1``, as lm-eval asks, vLLM gives for every position but the first a
    dictionary from token id to its log-probability and its rank (1 for the most likely), which
    holds the prompt's own token and the most likely one.
    """
    outputs = lm._model_generate(requests=[text.ids for text in texts], generate=False)
    return [_read(text, output) for text, output in zip(texts, outputs, strict=True)]


def _read(text: EncodedText, output: Any) -> TokenLogprobs:
    entries = [
        position[token]
        for token, position in zip(
            text.ids[text.first :], output.prompt_logprobs[text.first :], strict=True
        )
    ]
    result = TokenLogprobs(logprobs=[entry.logprob for entry in entries], truncated=text.truncated)
    if "greedy" in text.statistics:
        result["greedy"] = [entry.rank == 1 for entry in entries]
    return result
