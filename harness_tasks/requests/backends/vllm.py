"""Log-probabilities of prompt tokens from vLLM.

Not run on vLLM yet: tested against its documented outputs.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import Any

from ...errors import RequestError
from ..types import EncodedText, Statistic, TokenLogprobs


def check(lm: Any, statistics: Set[Statistic]) -> None:
    """Refuse statistics that need the whole distribution.

    Raises:
        RequestError: Moments are requested.
    """
    if "moments" in statistics:
        raise RequestError(
            "Min-K%++ needs the whole distribution at every token, which vLLM does not give: "
            "evaluate with --model hf"
        )


def max_tokens(lm: Any, longest: int) -> int:
    """Return the context minus one token, since vLLM always generates one."""
    return lm.max_length - 1


def score(lm: Any, texts: Sequence[EncodedText]) -> list[TokenLogprobs]:
    """Score every text; vLLM schedules them itself.

    With lm-eval's ``prompt_logprobs=1``, vLLM returns for every position but the first a
    dictionary from token id to log-probability and rank (1 for the most likely token). It holds
    the prompt's token and the most likely one.
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
