"""Tokenizers for the tasks of MUSE: no token after a text, and padding that the model has."""

from __future__ import annotations

import copy
import functools
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import RequestError
from .checks import embedding_rows

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance
    from lm_eval.api.model import LM
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

T = TypeVar("T")


def with_text_tokenizer(
    method: Callable[[LM, Sequence[Instance]], list[T]],
) -> Callable[[LM, Sequence[Instance]], list[T]]:
    """Wrap a request's method to run within `text_tokenizer`."""

    @functools.wraps(method)
    def wrapped(lm: LM, requests: Sequence[Instance]) -> list[T]:
        with text_tokenizer(lm):
            return method(lm, requests)

    return wrapped


@contextmanager
def text_tokenizer(lm: LM) -> Iterator[None]:
    """Set a tokenizer that appends nothing to a text and pads with a token of the model.

    A model does not continue after an end token. Tokens before a text are kept, as in MUSE, which
    encodes with special tokens. Padding is masked, so any token can be used.

    Raises:
        RequestError: The tokenizer appends tokens, and its class does not allow a change.
    """
    own = hugging_face_tokenizer(lm)
    if own is None:
        yield
        return
    lm.tokenizer = _for_texts(own, embedding_rows(lm))
    try:
        yield
    finally:
        lm.tokenizer = own


def hugging_face_tokenizer(lm: LM) -> PreTrainedTokenizerBase | None:
    """Return the model's tokenizer if it is one of transformers."""
    from transformers import PreTrainedTokenizerBase

    tokenizer = getattr(lm, "tokenizer", None)
    return tokenizer if isinstance(tokenizer, PreTrainedTokenizerBase) else None


def added_tokens(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """Return the token ids that a tokenizer adds before and after every text."""
    text = tokenizer.encode("a", add_special_tokens=False)
    whole = tokenizer.encode("a")
    for start in range(len(whole) - len(text) + 1 if text else 0):
        if whole[start : start + len(text)] == text:
            return whole[:start], whole[start + len(text) :]
    return [], []


def _for_texts(tokenizer: PreTrainedTokenizerBase, rows: int | None) -> PreTrainedTokenizerBase:
    """Return the tokenizer itself, or a changed copy."""
    before, after = added_tokens(tokenizer)
    if before not in ([], [tokenizer.bos_token_id]):
        _warn_before(_token_names(tokenizer, before))
    pads = [tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.bos_token_id, 0]
    pad = next(index for index in pads if index is not None and (rows is None or index < rows))
    keeps_padding = tokenizer.pad_token_id in (None, pad)
    if not after and keeps_padding:
        return tokenizer
    changed = copy.deepcopy(tokenizer)
    if after:
        _warn_after(_token_names(tokenizer, after))
        _append_nothing(changed, before)
    if not keeps_padding:
        changed.pad_token_id = pad
    return changed


def _append_nothing(tokenizer: Any, before: list[int]) -> None:
    """Replace the post-processor by one that adds only the tokens before a text."""
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise RequestError(
            f"the tokenizer ({type(tokenizer).__name__}) appends tokens to every text, after which "
            "a model does not continue: evaluate with tokenizer= one that does not, for example "
            "saved with add_eos_token=False"
        )
    names = tokenizer.convert_ids_to_tokens(before)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=[*names, "$A"], special_tokens=list({*zip(names, before, strict=True)})
    )


def _token_names(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> str:
    return " ".join(tokenizer.convert_ids_to_tokens(ids))


@functools.cache
def _warn_before(tokens: str) -> None:
    logger.warning(
        "The tokenizer puts %s before every text, not its BOS token alone: the tasks of MUSE keep "
        "it; add_bos_token=False in --model_args leaves it out.",
        tokens,
    )


@functools.cache
def _warn_after(tokens: str) -> None:
    logger.warning(
        "The tokenizer appends %s to every text: the tasks of MUSE leave it out, because a model "
        "does not continue after it.",
        tokens,
    )
