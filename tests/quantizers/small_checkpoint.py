"""A small checkpoint, and changes of its tensors."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM


def small_llama(*, tied: bool = False) -> LlamaForCausalLM:
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    return LlamaForCausalLM(
        LlamaConfig(vocab_size=64, num_attention_heads=4, tie_word_embeddings=tied, **sizes)
    ).eval()


def change_tensors(
    folder: Path, change: Callable[[dict[str, Any]], Any], name: str = "model.safetensors"
) -> None:
    tensors = load_file(folder / name)
    change(tensors)
    save_file(tensors, folder / name, metadata={"format": "pt"})
