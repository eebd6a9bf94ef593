"""Tokenizers as the tasks of MUSE use them: nothing after a text, padding that the model has."""

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
    """Make a request's method run within `text_tokenizer`."""

    @functools.wraps(method)
    def wrapped(lm: LM, requests: Sequence[Instance]) -> list[T]:
        with text_tokenizer(lm):
            return method(lm, requests)

    return wrapped


@contextmanager
def text_tokenizer(lm: LM) -> Iterator[None]:
    """Within, the tokenizer of ``lm`` appends nothing to a text and pads with a token of the model.

    A model does not go on after an end of text, and no text ends where it is cut. Tokens before a
    text stay, as in MUSE, which encodes with special tokens. Padding is masked, so any token will
    do.

    Raises:
        RequestError: the tokenizer appends tokens, and is of a kind that cannot be changed.
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
    """The model's tokenizer, where it is one of transformers."""
    from transformers import PreTrainedTokenizerBase

    tokenizer = getattr(lm, "tokenizer", None)
    return tokenizer if isinstance(tokenizer, PreTrainedTokenizerBase) else None


def added_tokens(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """Token ids that a tokenizer puts before and after every text."""
    text = tokenizer.encode("a", add_special_tokens=False)
    whole = tokenizer.encode("a")
    for start in range(len(whole) - len(text) + 1 if text else 0):
        if whole[start : start + len(text)] == text:
            return whole[:start], whole[start + len(text) :]
    return [], []


def _for_texts(tokenizer: PreTrainedTokenizerBase, rows: int | None) -> PreTrainedTokenizerBase:
    """The tokenizer itself, or a changed copy."""
    before, after = added_tokens(tokenizer)
    if before not in ([], [tokenizer.bos_token_id]):
        _warn_before(_shown(tokenizer, before))
    pads = [tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.bos_token_id, 0]
    pad = next(each for each in pads if each is not None and (rows is None or each < rows))
    keeps_padding = tokenizer.pad_token_id in (None, pad)
    if not after and keeps_padding:
        return tokenizer
    changed = copy.deepcopy(tokenizer)
    if after:
        _warn_after(_shown(tokenizer, after))
        _append_nothing(changed, before)
    if not keeps_padding:
        changed.pad_token_id = pad
    return changed


def _append_nothing(tokenizer: Any, before: list[int]) -> None:
    """Replace what adds special tokens to a text by what adds those before it only."""
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise RequestError(
            f"the tokenizer ({type(tokenizer).__name__}) appends tokens to every text, after which "
            "a model does not go on: evaluate with tokenizer= one that does not, for example saved "
            "with add_eos_token=False"
        )
    names = tokenizer.convert_ids_to_tokens(before)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=[*names, "$A"], special_tokens=list({*zip(names, before, strict=True)})
    )


def _shown(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> str:
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
        "does not go on after it.",
        tokens,
    )
