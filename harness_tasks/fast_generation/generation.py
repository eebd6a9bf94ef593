"""Batched greedy generation of ``hf-muse``, faster than that of lm-eval's ``hf``.

The common first tokens of the prompts of a task (the ten answered questions of KnowMem) go through
the model once, and a batch ends as soon as a stop string has appeared in each row.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from lm_eval.models.utils import (
    handle_stop_sequences,
    normalize_gen_kwargs,
    postprocess_generated_text,
)
from transformers import PreTrainedModel, PreTrainedTokenizerBase, StoppingCriteria

from unlearners.onednn import onednn_linears

from ..batching import in_batches, progress_bar
from ..requests.decoding import own_settings, with_effect
from .prefix_cache import (
    PreallocatedLayer,
    is_exact,
    read_prefix,
    read_prompts,
    shared_attention,
)

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

PLAIN_SETTINGS = {"until", "max_gen_toks", "do_sample", "temperature"}


# transformers' StopStringCriteria also matches the end of the prompt, so texts can end early, and
# lm-eval's MultiTokenEOSCriteria ends a batch only when one string has appeared in all rows.
class StopStrings(StoppingCriteria):
    """Stopping criterion that ends each row at the first of several strings.

    Args:
        tokenizer: Tokenizer that decodes the last tokens of unfinished rows.
        strings: Stop strings, not empty.
        start: Index of the first generated token.
        rows: Number of rows of the batch.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, strings: Sequence[str], start: int, rows: int
    ) -> None:
        self.tokenizer, self.strings, self.start = tokenizer, strings, start
        self.done = torch.zeros(rows, dtype=torch.bool)
        # a string may begin and end within a token, and its tokens depend on the text around it
        encoded = [tokenizer.encode(string, add_special_tokens=False) for string in strings]
        self.lookback = max(map(len, encoded)) + 2

    def __call__(
        self, input_ids: torch.LongTensor, scores: torch.FloatTensor, **kwargs: Any
    ) -> torch.BoolTensor:
        """Search the last tokens of every unfinished row.

        Args:
            input_ids: Token ids [rows, tokens] of prompts and generated texts, int64.
            scores: Unused.
            **kwargs: Unused.

        Returns:
            Finished rows [rows], bool.
        """
        first = max(self.start, input_ids.shape[1] - self.lookback)
        active = (~self.done).nonzero()[:, 0].tolist()
        texts = self.tokenizer.batch_decode(input_ids[active, first:])
        for row, text in zip(active, texts, strict=True):
            self.done[row] = any(string in text for string in self.strings)
        return self.done.to(input_ids.device)  # type: ignore[return-value]


def is_supported(lm: HFLM, requests: Sequence[Instance]) -> bool:
    """Check that decoding is greedy and unmodified, and that the model works with our cache."""
    settings = [normalize_gen_kwargs(request.args[1]) for request in requests]
    return (
        isinstance(lm.model, PreTrainedModel)
        and lm.backend == "causal"
        and lm.think_end_token is None
        and all(not s["do_sample"] and s.keys() <= PLAIN_SETTINGS for s in settings)
        and not with_effect(own_settings(lm.model))
        and is_exact(lm.model)
    )


@torch.no_grad()
def generate_until(lm: HFLM, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[str]:
    """Generate texts as HFLM's method of the same name does.

    Args:
        lm: The model.
        requests: Requests for which `is_supported` returns True.
        disable_tqdm: Show no progress bar.

    Returns:
        Generated texts, in the order of the requests.
    """
    groups: dict[str, list[int]] = {}
    for index, request in enumerate(requests):
        groups.setdefault(repr((request.task_name, request.args[1])), []).append(index)
    results: dict[int, str] = {}
    with (
        torch.autocast(
            device_type=lm.device.type,
            dtype=lm.mixed_precision_dtype,
            enabled=lm.mixed_precision_dtype is not None,
        ),
        shared_attention(lm.model),
        onednn_linears(lm.model),
        progress_bar(lm)(
            total=len(requests),
            desc="Running generate_until requests",
            disable=disable_tqdm or lm.rank != 0,
        ) as progress,
    ):
        for indices in groups.values():
            texts = _generate_group(lm, [requests[index] for index in indices], progress)
            results.update(zip(indices, texts, strict=True))
    return [results[index] for index in range(len(requests))]


def _generate_group(lm: HFLM, requests: Sequence[Instance], progress: Any) -> list[str]:
    """Generate texts for requests of one task with the same settings."""
    settings = normalize_gen_kwargs(requests[0].args[1], lm.max_gen_toks)
    max_tokens = settings["max_gen_toks"]
    eos = lm.tok_decode(lm.eot_token_id, skip_special_tokens=False)
    until = handle_stop_sequences(settings["until"], eos=eos)
    stops = [string for string in until if string not in (eos, "")]
    max_prompt = lm.max_length - max_tokens
    prompts = [lm.tok_encode(r.args[0])[-max_prompt:] for r in requests]  # cut as in lm-eval
    shared = common_prefix(prompts)
    prefix = read_prefix(lm.model, prompts[0][:shared]) if shared else []
    texts: dict[int, str] = {}

    def run(batch: Sequence[int]) -> None:
        outputs = generate(lm, [prompts[index] for index in batch], prefix, max_tokens, stops)
        for index, tokens in zip(batch, outputs, strict=True):
            texts[index] = postprocess_generated_text(lm.tok_decode(tokens), until, None)
            lm.cache_hook.add_partial("generate_until", requests[index].args, texts[index])
        progress.update(len(batch))

    order = sorted(range(len(prompts)), key=lambda index: -len(prompts[index]))
    in_batches(lm, order, run)
    return [texts[index] for index in range(len(requests))]


def common_prefix(prompts: Sequence[Sequence[int]]) -> int:
    """Count the tokens that all prompts begin with, leaving at least one token of each.

    The result is 0 if it is less than half of the longest prompt, since remaining tokens are read
    faster without a prefix.
    """
    equal = itertools.takewhile(lambda tokens: len(set(tokens)) == 1, zip(*prompts, strict=False))
    shared = min(sum(1 for _ in equal), min(map(len, prompts)) - 1)
    return shared if len(prompts) > 1 and 2 * shared >= max(map(len, prompts)) else 0


def generate(
    lm: HFLM,
    prompts: Sequence[Sequence[int]],
    prefix: Sequence[PreallocatedLayer],
    max_tokens: int,
    stops: Sequence[str],
) -> list[list[int]]:
    """Continue a batch of prompts greedily, within ``shared_attention``.

    Args:
        lm: The model, with its tokenizer.
        prompts: Token ids, the longest first.
        prefix: Keys and values of the common first tokens, one layer each; may be empty.
        max_tokens: Maximum number of tokens to generate.
        stops: Strings that end a row.

    Returns:
        Generated token ids of each row, padded after its end.
    """
    shared = prefix[0].length if prefix else 0
    width = len(prompts[0])
    pad = lm.tokenizer.pad_token_id
    cache = read_prompts(
        lm.model, [prompt[shared:-1] for prompt in prompts], prefix, width - shared + max_tokens
    )
    # the cache holds all but the last token of each row; padding precedes that token
    ids = torch.tensor(
        [[*prompt[:-1], *[pad] * (width - len(prompt)), prompt[-1]] for prompt in prompts],
        device=lm.device,
    )
    lengths = torch.tensor([len(prompt) for prompt in prompts], device=lm.device)[:, None]
    columns = torch.arange(width, device=lm.device)
    mask = ((columns < lengths - 1) | (columns == width - 1)).long()
    output = lm.model.generate(
        ids,
        attention_mask=mask,
        past_key_values=cache,
        max_new_tokens=max_tokens,
        do_sample=False,
        eos_token_id=_end_tokens(lm),
        pad_token_id=pad,
        stopping_criteria=[StopStrings(lm.tokenizer, stops, width, len(ids))] if stops else [],
    )
    return output[:, width:].tolist()


def _end_tokens(lm: HFLM) -> list[int] | None:
    """Return the end tokens of the model and its tokenizer, at which HFLM stops too.

    The result is None if the tokenizer has no EOS token, since that of the model may be a default
    of its configuration class and an ordinary token of this tokenizer.
    """
    if lm.eot_token_id is None:
        return None
    own = lm.model.generation_config.eos_token_id
    return sorted({lm.eot_token_id, *(own if isinstance(own, list) else [own])} - {None})
