"""Log-probabilities of every token of a text, whichever model class of lm-eval is asked."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from typing_extensions import Required

from .answer_cache import cached
from .backends import BACKENDS
from .loading import refuse_incomplete_lm

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance
    from lm_eval.api.model import LM


class RequestError(ValueError):
    """A model cannot serve a request of MUSE; the message is one line for the user."""


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


def too_long(request: Instance, length: str, limit: int) -> RequestError:
    """The error for a text longer than the model's context."""
    return RequestError(
        f"{request.task_name}: text {request.doc_id} has {length}, the model holds {limit}; "
        "evaluate a model with a longer context, or cut texts and have the results say so with "
        """--metadata '{"truncate": true}'"""
    )


def no_eos(lm: LM) -> RequestError:
    """The error for a tokenizer without an EOS token, which lm-eval's own model classes need."""
    return RequestError(
        f"the tokenizer has no EOS token, which lm-eval's model class {type(lm).__name__} needs: "
        "set one, or evaluate with --model hf-muse"
    )


def token_logprobs(lm: LM, requests: Sequence[Instance]) -> list[TokenLogprobs]:
    """The log-probability of every token of each text, as ``(text, TokenOptions)``.

    Raises:
        RequestError: the model's class cannot give them, or a text is too long or has no token
            to score.
        ModelError: the model's checkpoint was incomplete.
    """
    refuse_incomplete_lm(lm)
    backend = _backend(lm)
    return cached(lm, "token_logprobs", requests, lambda missing: _compute(lm, backend, missing))


def backend_name(lm: LM) -> str | None:
    """Module of ``backends`` that serves a model, or None."""
    names = (f"{cls.__module__}.{cls.__qualname__}" for cls in type(lm).__mro__)
    return next((BACKENDS[name] for name in names if name in BACKENDS), None)


def _backend(lm: LM) -> Any:
    if module := backend_name(lm):
        return importlib.import_module(f".backends.{module}", __package__)
    raise RequestError(
        f"the model class {type(lm).__name__} gives no log-probability per token, which PrivLeak "
        "and its like need; --model hf, hf-muse and vllm do; the other tasks of MUSE work with "
        "every model that generates"
    )


def _compute(lm: LM, backend: Any, requests: Sequence[Instance]) -> list[TokenLogprobs]:
    """Score every text once, however many requests there are on it."""
    limit = backend.max_tokens(lm)
    texts: dict[tuple[Any, ...], EncodedText] = {}
    keys = []
    for request in requests:
        text, options = request.args
        key = (text, options.get("context"), options.get("truncate"))
        keys.append(key)
        if key not in texts:
            texts[key] = _encode(lm, request, limit)
        texts[key].statistics.update(options.get("statistics", ()))
    results = dict(zip(texts, backend.score(lm, list(texts.values())), strict=True))
    return [results[key] for key in keys]


def _encode(lm: Any, request: Instance, limit: int) -> EncodedText:
    """Token ids with special tokens; text and context are encoded as one, as lm-eval does."""
    text, options = request.args
    context = options.get("context", "")
    ids = lm.tok_encode(context + text)
    first = len(lm.tok_encode(context)) if context else 1
    if len(ids) > limit and not options.get("truncate"):
        raise too_long(request, f"{len(ids)} tokens", limit)
    if len(ids[:limit]) <= first:
        raise RequestError(
            f"{request.task_name}: text {request.doc_id} has no token to score after the first "
            f"{first}: {text!r}"
        )
    return EncodedText(ids[:limit], first, len(ids) > limit, set())
