"""Greedy decoding that depends on the weights alone.

A model's ``generation_config.json`` may hold a repetition penalty, forbidden words or other
settings that change greedy texts. They are not part of the unlearned weights, so the tasks of
MUSE ignore them.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance
    from lm_eval.api.model import LM
    from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

IDS = ("bos_token_id", "pad_token_id", "decoder_start_token_id")
NOT_DECODING = {"transformers_version", "_from_model_config"}
NEUTRAL_AT_ONE = {
    *("num_beams", "num_beam_groups", "num_return_sequences", "length_penalty"),
    *("repetition_penalty", "encoder_repetition_penalty", "temperature", "top_p", "typical_p"),
}
WITHOUT_EFFECT = {
    *("do_sample", "temperature", "top_k", "top_p", "min_p", "top_h", "typical_p"),
    *("epsilon_cutoff", "eta_cutoff", "use_cache", "cache_implementation", "cache_config"),
    *("max_length", "max_new_tokens", "eos_token_id", *IDS),
}
"""Settings without effect on greedy texts: of sampling and caches, and those the tasks set."""


def greedy_until(lm: LM, requests: Sequence[Instance]) -> list[str]:
    """Answer requests as ``generate_until`` does, without the model's own generation settings.

    Answers are read from and stored in lm-eval's cache (``--use_cache``).

    Args:
        lm: Any model; a Hugging Face model has `neutral_config` during the call.
        requests: With the arguments of ``generate_until``.

    Returns:
        Generated texts.
    """
    from .answer_cache import cached

    with neutral_decoding(lm):
        return cached(lm, "generate_until", requests, lambda missing: lm.generate_until([*missing]))


@contextmanager
def neutral_decoding(lm: LM) -> Iterator[None]:
    """Set `neutral_config` on the model of ``lm`` within the context."""
    model = _causal_model(lm)
    if model is None:
        yield
        return
    own = model.generation_config
    if ignored := with_effect(own_settings(model)):
        _warn_ignored(json.dumps(ignored))
    model.generation_config = neutral_config(own, lm.tokenizer)
    try:
        yield
    finally:
        model.generation_config = own


def neutral_config(own: GenerationConfig, tokenizer: PreTrainedTokenizerBase) -> GenerationConfig:
    """Build a generation configuration that holds token ids only.

    Args:
        own: Configuration of the model. Of its end tokens only special tokens are kept, since an
            ordinary token would end texts early.
        tokenizer: Tokenizer with an EOS token, which also ends a text; without one, no token does.
    """
    from transformers import GenerationConfig

    ids = {name: value for name in IDS if (value := getattr(own, name, None)) is not None}
    if tokenizer.eos_token_id is None:
        return GenerationConfig(**ids)
    ends = own.eos_token_id if isinstance(own.eos_token_id, list) else [own.eos_token_id]
    added = tokenizer.added_tokens_decoder.items()
    special = {*tokenizer.all_special_ids, *(index for index, token in added if token.special)}
    return GenerationConfig(
        eos_token_id=sorted({tokenizer.eos_token_id, *(special.intersection(ends))}), **ids
    )


def own_settings(model: PreTrainedModel) -> dict[str, Any]:
    """Return the settings of a model's generation configuration that are not neutral."""
    config = getattr(model, "generation_config", None)
    settings = {} if config is None else json.loads(config.to_json_string(use_diff=True))
    return {
        name: value
        for name, value in settings.items()
        if name not in NOT_DECODING
        and (value or name.endswith("_token_id"))
        and not (value == 1 and name in NEUTRAL_AT_ONE)
    }


def with_effect(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Select the settings that change greedy texts."""
    return {name: value for name, value in settings.items() if name not in WITHOUT_EFFECT}


def _causal_model(lm: LM) -> PreTrainedModel | None:
    """Return the Hugging Face model of ``lm`` without its adapter; None for other backends."""
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    model: Any = getattr(lm, "model", None)
    if hasattr(model, "get_base_model"):
        model = model.get_base_model()
    plain = isinstance(model, PreTrainedModel) and model.generation_config is not None
    return model if plain and isinstance(lm.tokenizer, PreTrainedTokenizerBase) else None


@cache
def _warn_ignored(settings: str) -> None:
    logger.warning(
        "The tasks of MUSE decode greedily and ignore these settings of the model's "
        "generation_config: %s",
        settings,
    )
