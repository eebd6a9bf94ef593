"""A tokenizer, models of a few thousand parameters, and settings for short training."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from quantizers.loading import auto_class
from unlearners.training import TrainingSettings

ROOT = Path(__file__).parents[2]
WINDOW = 16


def byte_tokenizer(**special_tokens: str) -> PreTrainedTokenizerFast:
    """One token per byte, and the special tokens given; never a padding token."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {symbol: i for i, symbol in enumerate([*special_tokens.values(), *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special_tokens)


TINY = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.1,
}


def tiny_llama(dtype: torch.dtype = torch.float32, **config: Any) -> PreTrainedModel:
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**TINY | config)).to(dtype).eval()


def tiny_gemma2(dtype: torch.dtype = torch.float32, cap: float | None = 0.5) -> PreTrainedModel:
    """Logits are capped: ``cap * tanh(head output / cap)``."""
    torch.manual_seed(0)
    own = {"head_dim": 8, "query_pre_attn_scalar": 8, "final_logit_softcapping": cap}
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    config = Gemma2Config(**TINY | own | ids, attn_implementation="eager")
    return Gemma2ForCausalLM(config).to(dtype).eval()


def tiny_granite(scaling: float) -> PreTrainedModel:
    """Logits are the head's output divided by ``scaling``."""
    torch.manual_seed(0)
    return GraniteForCausalLM(GraniteConfig(**TINY, logits_scaling=scaling)).eval()


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


def architecture(model_type: str, dtype: torch.dtype = torch.float32, **rates: float) -> Any:
    """A tiny model of any architecture of transformers.

    Args:
        model_type: Type of its configuration.
        dtype: Dtype of its weights.
        **rates: Settings of its configuration, for example of dropout.
    """
    spec = importlib.util.spec_from_file_location("tiny", ROOT / "tests/architectures/tiny.py")
    assert spec is not None and spec.loader is not None
    tiny = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tiny)
    config = tiny.tiny_config(model_type)
    for name, rate in rates.items():
        assert hasattr(config, name)
        setattr(config, name, rate)
    torch.manual_seed(0)
    return auto_class(config).from_config(config, dtype=dtype).eval()
