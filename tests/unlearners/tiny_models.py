"""A tokenizer and models of a few thousand parameters, and settings to train them in no time."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from unlearners.training import TrainingSettings

WINDOW = 16


def byte_tokenizer(**special_tokens: str) -> PreTrainedTokenizerFast:
    """One token per byte, and the special tokens given; never a padding token."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {symbol: i for i, symbol in enumerate([*special_tokens.values(), *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special_tokens)


def tiny_llama(dtype: torch.dtype = torch.float32, **config: Any) -> PreTrainedModel:
    torch.manual_seed(0)
    settings = {
        "vocab_size": 300,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
        "initializer_range": 0.1,
    }
    return LlamaForCausalLM(LlamaConfig(**settings | config)).to(dtype).eval()


def tiny_gpt2(dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """Transposed weights, tied embeddings, dropout."""
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=300, n_embd=32, n_layer=2, n_head=4, n_positions=64)
    return GPT2LMHeadModel(config).to(dtype).eval()


def settings(**overrides: Any) -> TrainingSettings:
    """Two steps an epoch: seven windows in batches of four."""
    defaults = TrainingSettings(
        learning_rate=1e-3, max_steps=3, batch_size=4, window=WINDOW, save_steps=None
    )
    return dataclasses.replace(defaults, **overrides)
