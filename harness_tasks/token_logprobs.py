"""Per-token log-probabilities from lm-eval's Hugging Face models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from accelerate import find_executable_batch_size
from lm_eval.models.utils_hf import pad_and_concat
from peft import PeftModel
from tqdm import tqdm
from transformers import PreTrainedModel

from .requests import RequestError, TokenLogprobs, too_long

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

# Logits held at once, in elements: 64 MiB in float32, whatever the vocabulary.
LOGITS_AT_ONCE = 2**24
# Tokens of a batch where the batch size is "auto": more only costs memory.
AUTO_BATCH_TOKENS = 2**14

Logits = Callable[[int, slice], torch.Tensor]
Halves = tuple[torch.nn.Module, torch.nn.Module]


def token_logprobs(lm: HFLM, requests: Sequence[Instance]) -> list[TokenLogprobs]:
    """Score every text, in batches of similar length, the longest first.

    Raises:
        RequestError: the model is not causal, or a text is too long or has fewer than two tokens.
    """
    if lm.backend != "causal":
        raise RequestError(f"PrivLeak needs a causal language model, not a {lm.backend} one")
    texts = [_encode(lm, request) for request in requests]
    order = sorted(range(len(texts)), key=lambda i: -len(texts[i][0]))
    results: dict[int, TokenLogprobs] = {}

    def run(batch_size: int) -> None:
        for start in range(len(results), len(order), batch_size):
            batch = order[start : start + batch_size]
            scored = _score(lm, halves, [texts[i][0] for i in batch])
            for i, logprobs in zip(batch, scored, strict=True):
                results[i] = TokenLogprobs(logprobs=logprobs, truncated=texts[i][1])
            progress.update(len(batch))

    with (
        torch.no_grad(),
        torch.autocast(
            device_type=lm.device.type,
            dtype=lm.mixed_precision_dtype,
            enabled=lm.mixed_precision_dtype is not None,
        ),
        tqdm(
            total=len(order), desc="Running token_logprobs requests", disable=lm.rank != 0
        ) as progress,
    ):
        longest = texts[order[0]][0]
        halves = _halves(lm, torch.tensor([longest[:8]], device=lm.device))
        if lm.batch_size == "auto":
            fitting = max(1, AUTO_BATCH_TOKENS // len(longest))
            find_executable_batch_size(run, min(lm.max_batch_size, fitting))()
        else:
            run(lm.batch_size)
    return [results[i] for i in range(len(texts))]


def _encode(lm: HFLM, request: Instance) -> tuple[list[int], bool]:
    """Token ids with special tokens, and whether they were cut to the model's context."""
    text, truncate = request.args
    ids = lm.tok_encode(text)
    if len(ids) < 2:
        raise RequestError(
            f"{request.task_name}: text {request.doc_id} has {len(ids)} token(s); Min-K% needs "
            f"at least two: {text!r}"
        )
    if len(ids) > lm.max_length and not truncate:
        raise too_long(request, f"{len(ids)} tokens", lm.max_length)
    return ids[: lm.max_length], len(ids) > lm.max_length


def _halves(lm: HFLM, probe: torch.Tensor) -> Halves | None:
    """Backbone and output head, if one after the other they give exactly the model's logits.

    They do not where the model scales or caps its logits, or ``lm`` runs it in its own way.
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


def _score(lm: HFLM, halves: Halves | None, texts: list[list[int]]) -> list[list[float]]:
    """Log-probabilities of tokens 1 … n−1 of each text of one batch, the longest text first.

    Padding stands on the right, where a causal model's real tokens never see it: no attention
    mask is needed, and each text gets what it gets alone.
    """
    tensors = [torch.tensor(ids, device=lm.device) for ids in texts]
    batch = pad_and_concat(len(texts[0]), list(tensors), padding_side="right")
    logits = _logits(lm, halves, batch)
    return [_gather(logits, row, ids).tolist() for row, ids in enumerate(tensors)]


def _logits(lm: HFLM, halves: Halves | None, batch: torch.Tensor) -> Logits:
    """The logits of a batch as a function of row and positions.

    With two halves, the head sees only the positions asked for, so that the logits of a whole
    batch are never in memory.
    """
    if halves is None:
        # prompt-tuned models put virtual tokens in front
        whole = lm._model_call(batch)[:, -batch.shape[1] :]
        return lambda row, positions: whole[row, positions]
    backbone, head = halves
    hidden = backbone(batch)[0]
    return lambda row, positions: head(hidden[row, positions])


def _gather(logits: Logits, row: int, ids: torch.Tensor) -> torch.Tensor:
    """Log-softmax at the tokens that follow, of shape [n−1] in float32, slice by slice."""
    vocabulary = logits(row, slice(0, 1)).shape[-1]
    step = max(1, LOGITS_AT_ONCE // vocabulary)
    parts = []
    for start in range(0, len(ids) - 1, step):
        target = ids[start + 1 : start + 1 + step, None]
        part = logits(row, slice(start, start + len(target))).float()
        parts.append(part.gather(-1, target.to(part.device))[:, 0] - part.logsumexp(-1))
    return torch.cat(parts)
