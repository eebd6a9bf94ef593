"""Log-probabilities from lm-eval's Hugging Face models, computed in slices of logits."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence, Set
from functools import cache
from typing import TYPE_CHECKING, cast

import torch
from lm_eval.models.utils_hf import pad_and_concat
from peft import PeftModel
from transformers import PreTrainedModel
from transformers.tokenization_utils_base import LARGE_INTEGER

from quantizers.architecture import context_length, language_modules, sees_later_tokens
from unlearners.onednn import onednn_linears

from ...batching import BATCH_TOKENS, in_batches, progress_bar
from ...errors import RequestError
from ..checks import embedding_rows, no_eos
from ..types import EncodedText, Statistic, TokenLogprobs

if TYPE_CHECKING:
    from lm_eval.models.huggingface import HFLM

logger = logging.getLogger(__name__)

LOGITS_AT_ONCE = 2**24
"""Maximum number of elements of a slice of logits: 64 MiB in float32."""

TABLE = re.compile("wpe|positions?_|_positions|pos_encoding")
WITHOUT_TABLE = {"mpt", "reformer"}
"""Model types that are limited to their configured context without a table of positions."""

PROBE = 16
"""Number of tokens of a test input."""

Logits = Callable[[int, slice], torch.Tensor]
Halves = tuple[torch.nn.Module, torch.nn.Module]


def check(lm: HFLM, statistics: Set[Statistic]) -> None:
    """Refuse a model that gives no log-probabilities.

    Raises:
        RequestError: The model is not causal, or its tokenizer has neither BOS nor EOS token, so
            that HFLM cannot encode a text.
    """
    if lm.backend != "causal":
        raise RequestError(f"token log-probabilities need a causal model, not a {lm.backend} one")
    if lm.prefix_token_id is None and getattr(lm, "needs_eos", True):
        raise no_eos(lm)


def is_causal(lm: HFLM) -> bool:
    """Return False if HFLM treats a model as causal although its tokens see later ones."""
    rows = embedding_rows(lm)
    if lm.backend != "causal" or rows is None:
        return True
    tokens = torch.arange(PROBE, device=lm.device).remainder(rows)[None]
    return not sees_later_tokens(lambda ids: lm._model_call(ids)[:, -ids.shape[1] :], tokens)


def max_tokens(lm: HFLM, longest: int) -> int:
    """Set ``lm.max_length`` to the model's context in tokens, and return it.

    lm-eval knows fewer of its names, assumes 2048 without one, and accepts a user's value beyond
    the model's positions.

    Args:
        lm: The model.
        longest: Number of tokens of the longest text, for a model without a limit.
    """
    given = vars(lm).setdefault("_given_max_length", lm._max_length)
    model = lm.model.get_base_model() if isinstance(lm.model, PeftModel) else lm.model
    if not isinstance(model, PreTrainedModel) or lm.backend != "causal":
        return lm.max_length
    own = context_length(model)
    if given is None and own is not None:
        lm._max_length = own
    elif given is None and lm.tokenizer.model_max_length > LARGE_INTEGER:
        lm._max_length = max(longest, lm._DEFAULT_MAX_LENGTH)
    if own is not None and (positions := _positions(model, own)) is not None:
        lm._max_length = min(positions, lm.max_length)
    return lm.max_length


def _positions(model: PreTrainedModel, context: int) -> int | None:
    """Return the number of positions in the model's table; None without a table.

    Args:
        model: The model.
        context: Context in its configuration. A table may have two additional rows that are no
            positions; after a row for padding, positions begin with the next one.
    """
    if model.config.model_type in WITHOUT_TABLE:
        return context
    for name, module in language_modules(model):
        tables = dict(module._buffers)
        if isinstance(module, torch.nn.Embedding):
            tables[name.rpartition(".")[2]] = module.weight
        for leaf, table in tables.items():
            if table is not None and TABLE.search(leaf) and len(table) - context in (0, 2):
                padding = getattr(module, "padding_idx", None)
                return context if padding is None else len(table) - padding - 1
    return None


def score(lm: HFLM, texts: Sequence[EncodedText]) -> list[TokenLogprobs]:
    """Score texts in batches of similar length, the longest first.

    They are scored one at a time if the model sees the padding after shorter texts.
    """
    order = sorted(range(len(texts)), key=lambda index: -len(texts[index].ids))
    longest, shortest = texts[order[0]].ids, texts[order[-1]].ids
    results: dict[int, TokenLogprobs] = {}
    with (
        torch.no_grad(),
        torch.autocast(
            device_type=lm.device.type,
            dtype=lm.mixed_precision_dtype,
            enabled=lm.mixed_precision_dtype is not None,
        ),
        onednn_linears(lm.model),
        progress_bar(lm)(
            total=len(order), desc="Running token_logprobs requests", disable=lm.rank != 0
        ) as progress,
    ):
        halves = _halves(lm, torch.tensor([longest[:8]], device=lm.device))
        limit = BATCH_TOKENS // len(longest)
        if lm.batch_size != 1 and _sees_padding(lm, halves, shortest, len(longest)):
            _warn_sees_padding(type(lm.model).__name__)
            limit = 1

        def run(batch: Sequence[int]) -> None:
            scored = _score_batch(lm, halves, [texts[index] for index in batch])
            results.update(zip(batch, scored, strict=True))
            progress.update(len(batch))

        in_batches(lm, order, run, limit=limit)
    return [results[index] for index in range(len(texts))]


def _halves(lm: HFLM, probe: torch.Tensor) -> Halves | None:
    """Return backbone and output head if they give exactly the model's logits, else None.

    They do not if the model scales or caps its logits, or if ``lm`` runs it differently.
    """
    model = lm.model.get_base_model() if isinstance(lm.model, PeftModel) else lm.model
    if not isinstance(model, PreTrainedModel):
        return None
    backbone, head = model.base_model, model.get_output_embeddings()
    if head is None or backbone is model:
        return None
    whole, halves = lm._model_call(probe), head(backbone(probe)[0])
    same = whole.shape == halves.shape and torch.allclose(whole, halves, 0, 0, equal_nan=True)
    return (backbone, head) if same else None


def _sees_padding(lm: HFLM, halves: Halves | None, ids: list[int], width: int) -> bool:
    """Return True if padding a text on the right to ``width`` tokens changes its logits."""
    if len(ids) == width:
        return False
    last = slice(len(ids) - 1, len(ids))
    alone, padded = (
        _logits(lm, halves, torch.tensor([tokens], device=lm.device))(0, last)
        for tokens in (ids, [*ids, *[0] * (width - len(ids))])
    )
    tolerance = torch.finfo(alone.dtype).eps ** 0.5
    return bool(torch.dist(alone.float(), padded.float()) > tolerance * alone.float().norm())


@cache
def _warn_sees_padding(model: str) -> None:
    logger.warning(
        "%s gives a text other log-probabilities if padding follows it: texts are scored one "
        "at a time.",
        model,
    )


def _score_batch(lm: HFLM, halves: Halves | None, texts: list[EncodedText]) -> list[TokenLogprobs]:
    """Score the texts of one batch, the longest first.

    Padding is on the right, where real tokens do not see it, so no attention mask is needed and
    the results do not depend on the batch.
    """
    tensors = [torch.tensor(text.ids, device=lm.device) for text in texts]
    batch = pad_and_concat(len(texts[0].ids), list(tensors), padding_side="right")
    logits = _logits(lm, halves, batch)
    return [_gather(logits, row, tensors[row], text) for row, text in enumerate(texts)]


def _logits(lm: HFLM, halves: Halves | None, batch: torch.Tensor) -> Logits:
    """Return a function from row and slice of positions to logits [positions, vocabulary].

    With two halves the head is applied only to the requested positions, so the logits of a whole
    batch are never in memory.

    Args:
        lm: The model.
        halves: Backbone and head, or None to run the model as a whole.
        batch: Token ids [rows, tokens], int64.
    """
    if halves is None:
        # prompt-tuned models prepend virtual tokens
        whole = lm._model_call(batch)[:, -batch.shape[1] :]
        return lambda row, positions: whole[row, positions]
    backbone, head = halves
    hidden = backbone(batch)[0]
    return lambda row, positions: head(hidden[row, positions])


def _gather(logits: Logits, row: int, ids: torch.Tensor, text: EncodedText) -> TokenLogprobs:
    """Compute the results for the tokens from ``text.first`` on, slice by slice.

    Args:
        logits: Function from row and positions to logits.
        row: Row of the text in its batch.
        ids: Token ids [tokens] of the text, int64.
        text: The text, with the statistics to compute.
    """
    vocabulary = logits(row, slice(0, 1)).shape[-1]
    step = max(1, LOGITS_AT_ONCE // vocabulary)
    slices = []
    for start in range(text.first, len(ids), step):
        tokens = ids[start : start + step]
        before = slice(start - 1, start - 1 + len(tokens))
        slices.append(_statistics(logits(row, before).float(), tokens, text.statistics))
    joined = {name: torch.cat([part[name] for part in slices]).tolist() for name in slices[0]}
    return cast("TokenLogprobs", {"truncated": text.truncated, **joined})


def _statistics(
    logits: torch.Tensor, tokens: torch.Tensor, wanted: set[Statistic]
) -> dict[str, torch.Tensor]:
    """Compute the log-probability of each token, and further statistics.

    Args:
        logits: Logits [tokens, vocabulary], float32, each row those before its token.
        tokens: Token ids [tokens], int64.
        wanted: Names of further statistics.

    Returns:
        Tensors [tokens] by name: float32, and bool for ``greedy``.
    """
    tokens = tokens.to(logits.device)[:, None]
    normalizer = logits.logsumexp(-1, keepdim=True)
    result = {"logprobs": (logits.gather(-1, tokens) - normalizer)[:, 0]}
    if "greedy" in wanted:
        result["greedy"] = logits.argmax(-1) == tokens[:, 0]
    if "moments" in wanted:
        # a token with p = 0 has log p = −inf and must not contribute
        logprobs = (logits - normalizer).clamp(min=-1e6)
        probabilities = logprobs.exp()
        result["means"] = (probabilities * logprobs).sum(-1)
        distances = logprobs - result["means"][:, None]
        result["deviations"] = (probabilities * distances**2).sum(-1).sqrt()
    return result
