"""Key-value cache for a batch of prompts with a common prefix.

The prefix of all rows is read and stored once. All rows attend to it in one matrix product, and
each row to its own tokens separately. Keys and values of own tokens are written into buffers that
are allocated once per generation.
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
    """Keys and values of one layer in preallocated buffers; DynamicLayer copies at every token.

    Args:
        rows: Number of rows of the batch.
        capacity: Maximum number of own tokens of a row, without the prefix.
        prefix: Layer of a single row that holds the common prefix.
    """

    def __init__(self, rows: int, capacity: int, prefix: PreallocatedLayer | None = None) -> None:
        super().__init__()
        self.rows, self.capacity, self.prefix = rows, capacity, prefix
        self.prefix_length = prefix.length if prefix else 0
        self.seek(slice(0, rows), 0)

    def seek(self, window: slice, length: int) -> None:
        """Set the rows to write to, and the number of own tokens that they already have."""
        self.window, self.length = window, length

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Allocate buffers of zeros, since masked values must be finite.

        Args:
            key_states: [rows, heads, tokens, size] in the dtype of the buffers.
            value_states: Like ``key_states``.
        """
        super().lazy_initialization(key_states, value_states)
        self.buffers = [
            states.new_zeros(self.rows, states.shape[1], self.capacity, states.shape[3])
            for states in (key_states, value_states)
        ]

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the states of new tokens.

        Args:
            key_states: [rows, heads, new tokens, size] in the model's dtype.
            value_states: Like ``key_states``.
            *args: Unused.
            **kwargs: Unused.

        Returns:
            Views of the keys and values of all own tokens, [rows, heads, tokens, size].
        """
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
        """Return the number of tokens, including the prefix."""
        return self.prefix_length + self.length

    def get_mask_sizes(self, *args: Any, **kwargs: Any) -> tuple[int, int]:
        """Return length and offset of the mask, which covers own tokens only."""
        length, offset = super().get_mask_sizes(*args, **kwargs)
        return length - self.prefix_length, offset + self.prefix_length


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attend to a shared prefix and own tokens; an attention function of transformers.

    Args:
        module: Attention module.
        query: [rows, heads, tokens, size] in the model's dtype.
        key: [rows, key heads, own tokens, size], with the prefix's layer as attribute ``prefix``.
        value: Like ``key``.
        attention_mask: [rows, 1, tokens, own tokens], bool, True to attend; None for causal.
        scaling: Factor of the scores; by default the inverse root of the size.
        **kwargs: Arguments of other attention functions.

    Returns:
        Output [rows, tokens, heads, size] in the model's dtype, and None for the weights.
    """
    rows, heads, tokens, size = query.shape
    key_heads, own = key.shape[1:3]
    prefix = getattr(key, "prefix", None)
    if prefix is None and (tokens > 1 or heads == key_heads):
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **kwargs
        )
    # heads that share keys become additional tokens, so that no key is repeated
    query = query.reshape(rows, key_heads, -1, size)
    if prefix is None:
        output = scaled_dot_product_attention(query, key, value, attention_mask, scale=scaling)
        return output.reshape(rows, heads, tokens, -1).transpose(1, 2).contiguous(), None

    query = query * (size**-0.5 if scaling is None else scaling)
    prefix_keys, prefix_values = (buffer[0] for buffer in prefix.buffers)
    all_rows = query.transpose(0, 1).flatten(1, 2)  # [key heads, rows · tokens, size]
    scores = [
        (all_rows @ prefix_keys.mT).unflatten(1, (rows, -1)).transpose(0, 1),
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
    prefix_weights, own_weights = weights.split([prefix.length, own], -1)
    output = own_weights @ value
    output += (
        (prefix_weights.transpose(0, 1).flatten(1, 2) @ prefix_values)
        .unflatten(1, (rows, -1))
        .transpose(0, 1)
    )
    return output.reshape(rows, heads, tokens, -1).transpose(1, 2).contiguous(), None


AttentionInterface.register(ATTENTION, attend)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)


@contextmanager
def shared_attention(model: PreTrainedModel) -> Iterator[None]:
    """Set ``attend`` as the model's attention within the context."""
    own = model.config._attn_implementation
    model.set_attn_implementation(ATTENTION)
    try:
        yield
    finally:
        model.set_attn_implementation(own)


def read_prefix(model: PreTrainedModel, prefix: Sequence[int]) -> list[PreallocatedLayer]:
    """Compute keys and values of the common prefix: one cache layer per model layer, of one row."""
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
    """Compute keys and values of a batch of prompts, within ``shared_attention``.

    Args:
        model: The model.
        prompts: Token ids without the prefix, the longest first. They are padded on the right,
            where real tokens of a causal model do not see it; attention without a mask is faster.
        prefix: Layers of the prefix; may be empty.
        capacity: Maximum number of own tokens of a row.
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
    """Check that a prompt read in two parts ends in the same state as when read at once.

    It does not if a model stores more than plain keys and values, or has another attention.
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
