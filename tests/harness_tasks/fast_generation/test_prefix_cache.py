"""Buffers of keys and values, and attention to a common prefix."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from harness_tasks.fast_generation.prefix_cache import (
    PreallocatedLayer,
    attend,
    is_exact,
    read_prefix,
    read_prompts,
    shared_attention,
)

ROWS, HEADS, KEY_HEADS, SIZE, PREFIX = 3, 4, 2, 8, 5


def states(rows: int, heads: int, tokens: int, size: int = SIZE) -> torch.Tensor:
    return torch.randn(rows, heads, tokens, size)


def test_new_tokens_are_appended_to_the_rows_of_the_window() -> None:
    prefix = PreallocatedLayer(1, 2)
    prefix.update(torch.ones(1, 1, 2, 1), torch.ones(1, 1, 2, 1))
    layer = PreallocatedLayer(2, 3, prefix)
    layer.seek(slice(1, 2), 0)
    layer.update(torch.full((1, 1, 2, 1), 3.0), torch.full((1, 1, 2, 1), 4.0))
    layer.seek(slice(0, 2), 2)
    assert layer.get_seq_length() == 4
    keys, values = layer.update(torch.full((2, 1, 1, 1), 5.0), torch.full((2, 1, 1, 1), 6.0))
    assert keys[:, 0, :, 0].tolist() == [[0, 0, 5], [3, 3, 5]]
    assert values[:, 0, :, 0].tolist() == [[0, 0, 6], [4, 4, 6]]
    assert keys.prefix is prefix  # type: ignore[attr-defined]
    assert layer.get_seq_length() == 5


@pytest.mark.parametrize("scaling", [None, 0.7])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("tokens", [1, 3])
def test_attention_is_that_to_prefix_and_own_tokens_at_once(
    tokens: int, masked: bool, scaling: float | None
) -> None:
    """Against softmax over repeated keys; row 1 does not see its own token 1 if masked."""
    torch.manual_seed(0)
    prefix = PreallocatedLayer(1, PREFIX)
    shared = prefix.update(states(1, KEY_HEADS, PREFIX), states(1, KEY_HEADS, PREFIX))
    layer = PreallocatedLayer(ROWS, 3, prefix)
    if tokens == 1:
        layer.update(states(ROWS, KEY_HEADS, 2), states(ROWS, KEY_HEADS, 2))
    own = layer.update(states(ROWS, KEY_HEADS, tokens), states(ROWS, KEY_HEADS, tokens))
    query = states(ROWS, HEADS, tokens)
    visible = torch.ones(ROWS, 1, tokens, 3, dtype=torch.bool).tril(3 - tokens)
    if masked:
        visible[1, :, -1, 1] = False
    output, _ = attend(torch.nn.Module(), query, *own, visible if masked else None, scaling=scaling)

    keys, values = (
        torch.cat([common.expand(ROWS, -1, -1, -1), each], 2).repeat_interleave(2, 1)
        for common, each in zip(shared, own, strict=True)
    )
    scores = query @ keys.mT * (SIZE**-0.5 if scaling is None else scaling)
    scores[..., PREFIX:] = scores[..., PREFIX:].masked_fill(~visible, -torch.inf)
    expected = (scores.softmax(-1) @ values).transpose(1, 2)
    assert torch.allclose(output, expected, atol=1e-6)


def small_llama() -> LlamaForCausalLM:
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    config = LlamaConfig(vocab_size=60, initializer_range=0.3, **sizes, **heads)
    return LlamaForCausalLM(config).eval()


@torch.no_grad()
def test_prompts_continue_a_prefix() -> None:
    """Final states of one more token are those of the whole texts."""
    model = small_llama()
    prefix, prompts, more = [5, 6, 7, 8], [[9, 10], [20, 30]], torch.tensor([[11], [12]])
    with shared_attention(model):
        cache = read_prompts(model, prompts, read_prefix(model, prefix), capacity=3)
        assert cache.get_seq_length() == 6
        states = model.base_model(more, past_key_values=cache, use_cache=True)[0]
    whole = model.base_model(
        torch.cat([torch.tensor([[*prefix, *prompt] for prompt in prompts]), more], 1)
    )[0]
    assert torch.allclose(states[:, -1], whole[:, -1], atol=1e-5)


def test_attention_of_the_model_is_restored() -> None:
    model = small_llama()
    assert is_exact(model)
    assert model.config._attn_implementation == "sdpa"
    with pytest.raises(ZeroDivisionError), shared_attention(model):
        assert model.config._attn_implementation == "lm_eval_muse"
        raise ZeroDivisionError
    assert model.config._attn_implementation == "sdpa"
