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
        "evaluate a model with a longer context (max_length= in --model_args where it holds more "
        """than it says), or cut texts and have the results say so with --metadata '{"truncate": """
        "true}'"
    )


def no_eos(lm: LM) -> RequestError:
    """The error for a tokenizer without an EOS token, which lm-eval's own model classes need."""
    return RequestError(
        f"the tokenizer has no EOS token, which lm-eval's model class {type(lm).__name__} needs: "
        "set one, or evaluate with --model hf-muse"
    )


def context_length(lm: LM, longest: int) -> int | None:
    """Most tokens that a model holds; None where its class does not tell.

    Args:
        lm: the model.
        longest: tokens that are needed; a model without a limit holds them.
    """
    if backend_name(lm) == "huggingface":
        from .backends import huggingface

        return huggingface.max_tokens(lm, longest)
    return getattr(lm, "max_length", None)


def embedding_rows(lm: LM) -> int | None:
    """Tokens that the model has an embedding of; None where its class does not tell."""
    model: Any = getattr(lm, "model", None)
    embeddings = model.get_input_embeddings() if hasattr(model, "get_input_embeddings") else None
    weight = getattr(embeddings, "weight", None)
    return None if weight is None else getattr(embeddings, "num_embeddings", len(weight))


def check_ids(lm: LM, request: Instance, ids: Sequence[int]) -> None:
    """Refuse a text with a token that the model has no embedding of.

    Raises:
        RequestError: naming the token.
    """
    rows = embedding_rows(lm)
    if rows is None or not ids or (index := max(ids)) < rows:
        return
    tokenizer: Any = lm.tokenizer
    raise RequestError(
        f"{request.task_name}: text {request.doc_id} has token {index} "
        f"({tokenizer.convert_ids_to_tokens(index)}), the model has embeddings of {rows} tokens: "
        "evaluate with the tokenizer that the model was trained with, or resize its embeddings "
        "(resize_token_embeddings)"
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
    texts = encode_texts(lm, requests)
    results = dict(zip(texts, backend.score(lm, list(texts.values())), strict=True))
    return [results[_key(request)] for request in requests]


def encode_texts(lm: LM, requests: Sequence[Instance]) -> dict[tuple[Any, ...], EncodedText]:
    """Texts of requests ``(text, TokenOptions)`` as token ids, with special tokens.

    Text and context are encoded as one, as lm-eval does.

    Raises:
        RequestError: the model cannot score one of them, whatever the reason.
    """
    backend = _backend(lm)
    backend.check(lm, {name for r in requests for name in r.args[1].get("statistics", ())})
    encoder: Any = lm
    ids = {}
    for request in requests:
        text, options = request.args
        if _key(request) not in ids:
            ids[_key(request)] = encoder.tok_encode(options.get("context", "") + text)
            check_ids(lm, request, ids[_key(request)])
    limit = backend.max_tokens(lm, max(map(len, ids.values()), default=0))
    texts: dict[tuple[Any, ...], EncodedText] = {}
    for request in requests:
        text, options = request.args
        key = _key(request)
        if key not in texts:
            context = options.get("context", "")
            first = len(encoder.tok_encode(context)) if context else 1
            texts[key] = _cut(request, ids[key], first, limit)
        texts[key].statistics.update(options.get("statistics", ()))
    return texts


def _key(request: Instance) -> tuple[Any, ...]:
    """Key that requests on the same tokens share."""
    text, options = request.args
    return text, options.get("context"), options.get("truncate")


def _cut(request: Instance, ids: list[int], first: int, limit: int) -> EncodedText:
    """A text cut to ``limit`` tokens where that is allowed."""
    text, options = request.args
    if len(ids) > limit and not options.get("truncate"):
        raise too_long(request, f"{len(ids)} tokens", limit)
    if len(ids[:limit]) <= first:
        raise RequestError(
            f"{request.task_name}: text {request.doc_id} has no token to score after the first "
            f"{first}: {text!r}"
        )
    return EncodedText(ids[:limit], first, len(ids) > limit, set())
