"""What MUSE asks of a language model beyond lm-eval's own requests.

lm-eval sends a request to the model's method of that name. Importing this module gives its base
class ``LM`` three more: ``check_context``, ``truncate_tokens`` and ``token_logprobs``; a model
class that defines one of them itself keeps its own.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from lm_eval.api.model import LM, hash_args
from typing_extensions import Required

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance

logger = logging.getLogger(__name__)

# lm-eval's model classes (and their subclasses), and the module here that serves them
TOKEN_LOGPROBS_BACKENDS = {
    "lm_eval.models.huggingface.HFLM": "harness_tasks.token_logprobs",
}


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


def check_context(lm: LM, requests: Sequence[Instance]) -> list[bool]:
    """Whether prompt and response fit the model together, as ``(prompt, max_tokens, truncate)``.

    lm-eval cuts a longer prompt on the left and goes on. Models that do not tell their
    tokenizer or their context length are taken to look after it themselves.

    Raises:
        RequestError: one does not fit, and ``truncate`` is false.
    """
    fits = []
    limit = getattr(lm, "max_length", None)
    for request in requests:
        prompt, max_tokens, truncate = request.args
        if limit is None or _tokenizer(lm) is None:
            fits.append(True)
            continue
        length = len(lm.tok_encode(prompt)) + max_tokens
        if length > limit and not truncate:
            raise too_long(request, f"{length} tokens ({max_tokens} of them to generate)", limit)
        fits.append(length <= limit)
    return fits


def truncate_tokens(lm: LM, requests: Sequence[Instance]) -> list[str]:
    """Each text cut to the model's first tokens, as ``(text, max_tokens)``.

    MUSE cuts the reference so: encoded with special tokens, which count, decoded without.
    """
    tokenizer = _tokenizer(lm)
    if tokenizer is None:
        _warn_uncut(type(lm).__name__)
        return [request.args[0] for request in requests]
    return [
        tokenizer.decode(lm.tok_encode(text)[:max_tokens], skip_special_tokens=True)
        for text, max_tokens in (request.args for request in requests)
    ]


def token_logprobs(lm: LM, requests: Sequence[Instance]) -> list[TokenLogprobs]:
    """The log-probability of every token of each text, as ``(text, TokenOptions)``.

    Raises:
        RequestError: the backend cannot give them, or a text is too long or too short.
    """
    for cls in type(lm).__mro__:
        module = TOKEN_LOGPROBS_BACKENDS.get(f"{cls.__module__}.{cls.__qualname__}")
        if module:
            return _cached(lm, requests, importlib.import_module(module).token_logprobs)
    able = ", ".join(name.rpartition(".")[2] for name in TOKEN_LOGPROBS_BACKENDS)
    raise RequestError(
        f"the model class {type(lm).__name__} gives no log-probability per token, which "
        f"PrivLeak and its like need; {able} and their subclasses do (--model hf, hf-muse); the "
        "other tasks of MUSE work with every model that generates"
    )


def too_long(request: Instance, length: str, limit: int) -> RequestError:
    """The error for a text longer than the model's context."""
    return RequestError(
        f"{request.task_name}: text {request.doc_id} has {length}, the model holds {limit}; "
        "evaluate a model with a longer context, or cut texts and have the results say so with "
        """--metadata '{"truncate": true}'"""
    )


def _tokenizer(lm: LM) -> Any:
    """The model's Hugging Face tokenizer, or None."""
    from transformers import PreTrainedTokenizerBase

    tokenizer = getattr(lm, "tokenizer", None)
    return tokenizer if isinstance(tokenizer, PreTrainedTokenizerBase) else None


@cache
def _warn_uncut(model: str) -> None:
    logger.warning(
        "The model class %s has no Hugging Face tokenizer: the references of VerMem are compared "
        "whole, not cut to their first tokens as MUSE does.",
        model,
    )


def _cached(lm: LM, requests: Sequence[Instance], compute: Any) -> list[TokenLogprobs]:
    """Serve what ``--use_cache`` holds; compute and keep the rest."""
    store = lm.cache_hook.dbdict
    if store is None:
        return compute(lm, requests)
    keys = [hash_args("token_logprobs", request.args) for request in requests]
    missing = {
        key: request for key, request in zip(keys, requests, strict=True) if key not in store
    }
    results = compute(lm, list(missing.values())) if missing else []
    store.update(zip(missing, results, strict=True))
    store.commit()
    return [store[key] for key in keys]


for _method in (check_context, truncate_tokens, token_logprobs):
    if not hasattr(LM, _method.__name__):
        setattr(LM, _method.__name__, _method)
