"""Quantizing a model of SmolLM2-135M's shape against copying its weights."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import seconds_of
from transformers import LlamaConfig, LlamaForCausalLM

from quantizers import get_quantizer


@pytest.fixture(scope="module", params=[torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def model(request: pytest.FixtureRequest) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=49152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config).to(request.param)


def test_rtn_int4(model: LlamaForCausalLM, benchmark: Any, ratios: Any) -> None:
    quantizer = get_quantizer("rtn-int4")
    spare = copy.deepcopy(model)
    benchmark.pedantic(quantizer, args=(spare,), rounds=5, warmup_rounds=1)
    copying = seconds_of(lambda: copy.deepcopy(model))
    dtype = str(model.dtype).removeprefix("torch.")
    ratio = benchmark.stats["median"] / copying
    ratios.add(f"rtn-int4 on 135M {dtype} weights / copying the model", ratio, "at most 4")


def test_rtn_int4_memory(model: LlamaForCausalLM, ratios: Any, benchmark: Any) -> None:
    quantizer = get_quantizer("rtn-int4")
    spare = quantizer(copy.deepcopy(model))  # warmed up: libraries, allocator
    largest = max(
        module.weight.numel() * module.weight.element_size()
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and name != "lm_head"
    )
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = memory("VmRSS")
    benchmark.pedantic(quantizer, args=(spare,), rounds=1)
    extra = memory("VmHWM") - before
    dtype = str(model.dtype).removeprefix("torch.")
    ratios.add(f"rtn-int4 extra memory, {dtype} / largest layer", extra / largest, "at most 1")


def memory(field: str) -> int:
    """A field of /proc/self/status in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise KeyError(field)
