"""Requests of MUSE that lm-eval's models do not have.

lm-eval sends a request to the model's method of the same name. `install_requests` monkey-patches
lm-eval's base class ``LM``: it adds the methods ``check_context``, ``truncate_tokens``,
``token_logprobs`` and ``greedy_until``. Importing `harness_tasks.tasks.base` calls it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from lm_eval.api.model import LM

from ..compat import make_request
from ..errors import RequestError
from ..loading import refuse_incomplete_lm
from .answer_cache import cached
from .checks import check_ids, no_eos, too_long
from .decoding import greedy_until
from .token_logprobs import backend_name, context_length, encode_texts, token_logprobs
from .tokenizing import hugging_face_tokenizer, with_text_tokenizer

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance

logger = logging.getLogger(__name__)


def install_requests() -> None:
    """Add the methods for the requests of MUSE to ``LM``; those of subclasses take precedence."""
    for method in (check_context, truncate_tokens, token_logprobs, greedy_until):
        if not hasattr(LM, method.__name__):
            setattr(LM, method.__name__, with_text_tokenizer(method))


def check_context(lm: LM, requests: Sequence[Instance]) -> list[bool]:
    """Check that the model can answer all later requests, before the first one is sent.

    Without this check lm-eval silently cuts a long prompt on the left. A model without a known
    tokenizer or context length must check both itself.

    Args:
        lm: Any model.
        requests: With the arguments ``(prompt, max_tokens, truncate)`` for a response, which must
            fit the model together with its prompt, or ``(text, TokenOptions)`` for
            log-probabilities.

    Returns:
        True for every request that fits.

    Raises:
        RequestError: A text does not fit and may not be truncated, it has a token that the model
            does not know, the model's class or tokenizer does not support the request, or the
            model is not causal.
        ModelError: The model's checkpoint was incomplete.
    """
    refuse_incomplete_lm(lm)
    texts = [request for request in requests if isinstance(request.args[1], dict)]
    if texts and type(lm).token_logprobs is LM.token_logprobs:
        encode_texts(lm, texts)
    prompts = [request for request in requests if not isinstance(request.args[1], dict)]
    fits = iter(_fit(lm, prompts) if prompts else [])
    _refuse_not_causal(lm)
    return [isinstance(request.args[1], dict) or next(fits) for request in requests]


def _refuse_not_causal(lm: Any) -> None:
    """Refuse a Hugging Face model with tokens that see later ones; the result is cached."""
    if backend_name(lm) != "huggingface":
        return
    from .backends import huggingface

    request = make_request("is_causal", {}, ())
    (is_causal,) = cached(lm, "is_causal", [request], lambda _: [huggingface.is_causal(lm)])
    if not is_causal:
        raise RequestError(
            f"{type(lm.model).__name__} lets tokens see what follows them: it is no causal "
            "language model, and neither its texts nor its log-probabilities say what it knows"
        )


def _fit(lm: LM, requests: Sequence[Instance]) -> list[bool]:
    """Check for every prompt whether it fits with its response."""
    tokenizer = hugging_face_tokenizer(lm)
    if tokenizer is None:
        return [True] * len(requests)
    if tokenizer.eos_token_id is None and _needs_eos(lm):
        raise no_eos(lm)
    lengths = []
    for request in requests:
        prompt, max_tokens, _ = request.args
        ids = lm.tok_encode(prompt)
        check_ids(lm, request, ids)
        lengths.append(len(ids) + max_tokens)
    limit = context_length(lm, max(lengths))
    if limit is None:
        return [True] * len(requests)
    if getattr(lm, "truncation", False):  # the tokenizer cuts too
        limit = min(limit, tokenizer.model_max_length)
    for request, length in zip(requests, lengths, strict=True):
        _, max_tokens, truncate = request.args
        if length > limit and not truncate:
            raise too_long(request, f"{length} tokens ({max_tokens} of them to generate)", limit)
        if limit <= max_tokens:
            raise RequestError(
                f"{request.task_name}: generates {max_tokens} tokens, the model holds {limit}: "
                "no prompt fits; evaluate a model with a longer context"
            )
    return [length <= limit for length in lengths]


def truncate_tokens(lm: LM, requests: Sequence[Instance]) -> list[str]:
    """Cut texts to their first tokens, as MUSE cuts references.

    They are encoded with special tokens, which count, and decoded without.

    Args:
        lm: Any model; without a Hugging Face tokenizer the texts stay whole, with a warning.
        requests: With the arguments ``(text, max_tokens)``.
    """
    tokenizer: Any = hugging_face_tokenizer(lm)
    if tokenizer is None:
        _warn_uncut(type(lm).__name__)
        return [request.args[0] for request in requests]
    return [
        tokenizer.decode(lm.tok_encode(text)[:max_tokens], skip_special_tokens=True)
        for text, max_tokens in (request.args for request in requests)
    ]


def _needs_eos(lm: LM) -> bool:
    """Return True for lm-eval's model classes that decode the EOS token before generating."""
    return backend_name(lm) is not None and getattr(lm, "needs_eos", True)


@cache
def _warn_uncut(model: str) -> None:
    logger.warning(
        "The model class %s has no Hugging Face tokenizer: the references of VerbMem are compared "
        "whole, not cut to their first tokens as MUSE does.",
        model,
    )
