"""Log-probabilities of every token of a text, from any supported model class of lm-eval."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..errors import RequestError
from ..loading import refuse_incomplete_lm
from .answer_cache import cached
from .backends import BACKENDS
from .checks import check_ids, too_long
from .types import EncodedText, TokenLogprobs

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance
    from lm_eval.api.model import LM


def context_length(lm: LM, longest: int) -> int | None:
    """Return the context of a model in tokens; None if unknown.

    Args:
        lm: The model.
        longest: Number of tokens that are needed; the result for a model without a limit.
    """
    if backend_name(lm) == "huggingface":
        from .backends import huggingface

        return huggingface.max_tokens(lm, longest)
    return getattr(lm, "max_length", None)


def token_logprobs(lm: LM, requests: Sequence[Instance]) -> list[TokenLogprobs]:
    """Compute the log-probability of every token of each text.

    Args:
        lm: The model.
        requests: With the arguments ``(text, TokenOptions)``.

    Raises:
        RequestError: The model's class does not support it, or a text is too long or has no token
            to score.
        ModelError: The model's checkpoint was incomplete.
    """
    refuse_incomplete_lm(lm)
    backend = _backend(lm)
    return cached(lm, "token_logprobs", requests, lambda missing: _compute(lm, backend, missing))


def backend_name(lm: LM) -> str | None:
    """Return the name of the module of ``backends`` for a model, or None."""
    names = (f"{cls.__module__}.{cls.__qualname__}" for cls in type(lm).__mro__)
    return next((BACKENDS[name] for name in names if name in BACKENDS), None)


def _backend(lm: LM) -> Any:
    if module := backend_name(lm):
        return importlib.import_module(f".backends.{module}", __package__)
    raise RequestError(
        f"the model class {type(lm).__name__} gives no log-probability per token, which PrivLeak "
        "and similar tasks need; --model hf, hf-muse and vllm do; the other tasks of MUSE work "
        "with every model that generates"
    )


def _compute(lm: LM, backend: Any, requests: Sequence[Instance]) -> list[TokenLogprobs]:
    """Score every distinct text once."""
    texts = encode_texts(lm, requests)
    results = dict(zip(texts, backend.score(lm, list(texts.values())), strict=True))
    return [results[_key(request)] for request in requests]


def encode_texts(lm: LM, requests: Sequence[Instance]) -> dict[tuple[Any, ...], EncodedText]:
    """Encode texts with special tokens; context and text are encoded as one, as in lm-eval.

    Args:
        lm: The model.
        requests: With the arguments ``(text, TokenOptions)``.

    Returns:
        One encoded text by the key that requests on the same tokens share.

    Raises:
        RequestError: The model cannot score one of them.
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
    """Return the key that requests on the same tokens share."""
    text, options = request.args
    return text, options.get("context"), options.get("truncate")


def _cut(request: Instance, ids: list[int], first: int, limit: int) -> EncodedText:
    """Cut a text to ``limit`` tokens if that is allowed."""
    text, options = request.args
    if len(ids) > limit and not options.get("truncate"):
        raise too_long(request, f"{len(ids)} tokens", limit)
    if len(ids[:limit]) <= first:
        raise RequestError(
            f"{request.task_name}: text {request.doc_id} has no token to score after the first "
            f"{first}: {text!r}"
        )
    return EncodedText(ids[:limit], first, len(ids) > limit, set())
