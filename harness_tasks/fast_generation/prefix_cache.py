"""A key-value cache for many prompts that begin alike.

The tokens that all rows of a batch begin with are read once and kept once; every row attends to
them together in one product, and to its own tokens beside. Own keys and values are written into
buffers made for the whole generation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from ..batching import BATCH_TOKENS

ATTENTION = "lm_eval_muse"


class PreallocatedLayer(DynamicLayer):
    """Keys and values of one layer in buffers made once; DynamicLayer copies all at every token.

    Args:
        rows: rows of the batch.
        capacity: tokens of a row that the buffers hold, without the prefix.
        prefix: layer of one row, with the tokens that all rows begin with.
    """

    def __init__(self, rows: int, capacity: int, prefix: PreallocatedLayer | None = None) -> None:
        super().__init__()
        self.rows, self.capacity, self.prefix = rows, capacity, prefix
        self.before = prefix.length if prefix else 0
        self.seek(slice(0, rows), 0)

    def seek(self, window: slice, length: int) -> None:
        """Go on in these rows, after so many own tokens."""
        self.window, self.length = window, length

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Make the buffers; what is masked must still be a number, so they hold zeros."""
        super().lazy_initialization(key_states, value_states)
        self.buffers = [
            states.new_zeros(self.rows, states.shape[1], self.capacity, states.shape[3])
            for states in (key_states, value_states)
        ]

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write new states of shape [rows, heads, tokens, size]; return views of all own so far."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        end = self.length + key_states.shape[-2]
        for buffer, states in zip(self.buffers, (key_states, value_states), strict=True):
            buffer[self.window, :, self.length : end] = states
        self.length = end
        keys, values = (buffer[self.window, :, :end] for buffer in self.buffers)
        keys.prefix = self.prefix  # type: ignore[attr-defined]  # for ``attend``
        return keys, values

    def get_seq_length(self) -> int:
        """Tokens so far, the prefix among them."""
        return self.before + self.length

    def get_mask_sizes(self, *args: Any, **kwargs: Any) -> tuple[int, int]:
        """Length and offset of the mask, which is over own tokens only."""
        length, offset = super().get_mask_sizes(*args, **kwargs)
        return length - self.before, offset + self.before


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attention over a shared prefix and own tokens, as transformers calls it.

    Args:
        module: the attention module.
        query: [rows, heads, tokens, size].
        key: [rows, key heads, own tokens, size], with the prefix's layer as ``prefix``.
        value: like ``key``.
        attention_mask: [rows, 1, tokens, own tokens], true where to attend; None for causal.
        scaling: of the scores; by default the inverse root of the size.
        **kwargs: what other kinds of attention take.

    Returns:
        [rows, tokens, heads, size], and no weights.
    """
    rows, heads, tokens, size = query.shape
    key_heads, own = key.shape[1:3]
    prefix = getattr(key, "prefix", None)
    if prefix is None and (tokens > 1 or heads == key_heads):
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **kwargs
        )
    # Heads that share keys stand as so many more tokens, and no key is repeated.
    query = query.reshape(rows, key_heads, -1, size)
    if prefix is None:
        output = scaled_dot_product_attention(query, key, value, attention_mask, scale=scaling)
        return output.reshape(rows, heads, tokens, -1).transpose(1, 2).contiguous(), None

    query = query * (size**-0.5 if scaling is None else scaling)
    prefix_keys, prefix_values = (buffer[0] for buffer in prefix.buffers)
    together = query.transpose(0, 1).flatten(1, 2)  # [key heads, rows · tokens of all, size]
    scores = [
        (together @ prefix_keys.mT).unflatten(1, (rows, -1)).transpose(0, 1),
        query @ key.mT,
    ]
    if attention_mask is None and tokens > 1:
        attention_mask = torch.ones(tokens, own, dtype=torch.bool, device=query.device).tril()
    if attention_mask is not None:
        scores[1] = (
            scores[1]
            .unflatten(2, (-1, tokens))
            .masked_fill(~attention_mask.view(-1, 1, 1, tokens, own), -torch.inf)
            .flatten(2, 3)
        )
    weights = torch.cat(scores, -1).softmax(-1, dtype=torch.float32).to(query.dtype)
    of_prefix, of_own = weights.split([prefix.length, own], -1)
    output = of_own @ value
    output += (
        (of_prefix.transpose(0, 1).flatten(1, 2) @ prefix_values)
        .unflatten(1, (rows, -1))
        .transpose(0, 1)
    )
    return output.reshape(rows, heads, tokens, -1).transpose(1, 2).contiguous(), None


AttentionInterface.register(ATTENTION, attend)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)


@contextmanager
def shared_attention(model: PreTrainedModel) -> Iterator[None]:
    """Within, the model attends by ``attend``."""
    own = model.config._attn_implementation
    model.set_attn_implementation(ATTENTION)
    try:
        yield
    finally:
        model.set_attn_implementation(own)


def read_prefix(model: PreTrainedModel, prefix: Sequence[int]) -> list[PreallocatedLayer]:
    """Keys and values of tokens that all prompts begin with: one layer each, of one row."""
    layers = _make_layers(model, 1, len(prefix), [])
    ids = torch.tensor([prefix], device=model.device)
    model.base_model(ids, past_key_values=Cache([*layers]), use_cache=True)
    return layers


def read_prompts(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    prefix: Sequence[PreallocatedLayer],
    capacity: int,
) -> Cache:
    """Keys and values of a batch of prompts, within ``shared_attention``.

    Args:
        model: the model.
        prompts: token ids without the prefix, the longest first. They are padded on the right,
            which real tokens of a causal model never see: attention without a mask is faster.
        prefix: keys and values of the tokens before; may be empty.
        capacity: own tokens of a row that the cache is to hold.
    """
    layers = _make_layers(model, len(prompts), capacity, prefix)
    cache = Cache([*layers])
    longest, start = len(prompts[0]), 0
    while start < len(prompts) and prompts[start]:
        width = len(prompts[start])
        part = prompts[start : start + max(1, BATCH_TOKENS // width)]
        for layer in layers:
            layer.seek(slice(start, start + len(part)), 0)
        ids = [[*prompt, *[0] * (width - len(prompt))] for prompt in part]
        model.base_model(
            torch.tensor(ids, device=model.device), past_key_values=cache, use_cache=True
        )
        start += len(part)
    for layer in layers:
        layer.seek(slice(0, len(prompts)), longest)
    return cache


@torch.no_grad()
def is_exact(model: PreTrainedModel) -> bool:
    """Whether a prompt read in two parts ends in the state that it has when read as a whole.

    It does not where a model keeps more than plain keys and values, or attends in its own way.
    """
    if {type(layer) for layer in DynamicCache(config=model.config).layers} != {DynamicLayer}:
        return False
    tokens = list(range(2, 12))
    ids = torch.tensor([tokens], device=model.device)
    try:
        whole = model.base_model(ids)[0][0, -1]
        with shared_attention(model):
            layers = _make_layers(model, 1, len(tokens) - 4, read_prefix(model, tokens[:4]))
            parts = model.base_model(ids[:, 4:], past_key_values=Cache([*layers]), use_cache=True)
    except (AttributeError, NotImplementedError, RuntimeError, TypeError, ValueError):
        return False
    tolerance = torch.finfo(whole.dtype).eps ** 0.5
    return bool(torch.dist(whole.float(), parts[0][0, -1].float()) <= tolerance * whole.norm())


def _make_layers(
    model: PreTrainedModel, rows: int, capacity: int, prefix: Sequence[PreallocatedLayer]
) -> list[PreallocatedLayer]:
    count = len(DynamicCache(config=model.config).layers)
    return [
        PreallocatedLayer(rows, capacity, prefix[index] if prefix else None)
        for index in range(count)
    ]
