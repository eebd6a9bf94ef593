"""Requests that MUSE makes of a language model beyond lm-eval's own.

lm-eval sends a request to the model's method of that name.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from lm_eval.api.model import LM

from .decoding import greedy_until
from .loading import refuse_incomplete_lm
from .token_logprobs import backend_name, no_eos, token_logprobs, too_long

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance

logger = logging.getLogger(__name__)


def install_requests() -> None:
    """Give lm-eval's base class ``LM`` the methods that the tasks of MUSE ask for.

    A model class that defines one of them itself keeps its own.
    """
    for method in (check_context, truncate_tokens, token_logprobs, greedy_until):
        if not hasattr(LM, method.__name__):
            setattr(LM, method.__name__, method)


def check_context(lm: LM, requests: Sequence[Instance]) -> list[bool]:
    """Check that prompt and response fit the model together: ``(prompt, max_tokens, truncate)``.

    lm-eval cuts a longer prompt on the left and goes on. A model that does not tell its tokenizer
    or its context length is expected to check both itself.

    Returns:
        True for every request that fits.

    Raises:
        RequestError: one does not fit and ``truncate`` is false, or the model cannot generate
            with a tokenizer without an EOS token.
        ModelError: the model's checkpoint was incomplete.
    """
    refuse_incomplete_lm(lm)
    tokenizer = _tokenizer(lm)
    if tokenizer is not None and tokenizer.eos_token_id is None and _needs_eos(lm):
        raise no_eos(lm)
    fits = []
    limit = getattr(lm, "max_length", None)
    for request in requests:
        prompt, max_tokens, truncate = request.args
        if limit is None or tokenizer is None:
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


def _needs_eos(lm: LM) -> bool:
    """True for the model classes of lm-eval that decode the EOS token before they generate."""
    return backend_name(lm) is not None and getattr(lm, "needs_eos", True)


def _tokenizer(lm: LM) -> Any:
    """The model's Hugging Face tokenizer, or None."""
    from transformers import PreTrainedTokenizerBase

    tokenizer = getattr(lm, "tokenizer", None)
    return tokenizer if isinstance(tokenizer, PreTrainedTokenizerBase) else None


@cache
def _warn_uncut(model: str) -> None:
    logger.warning(
        "The model class %s has no Hugging Face tokenizer: the references of VerbMem are compared "
        "whole, not cut to their first tokens as MUSE does.",
        model,
    )
