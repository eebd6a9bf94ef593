"""hf-muse loads what `lm-eval-muse quantize` writes, formats that plain hf cannot read included."""

import copy
from pathlib import Path

import pytest
import torch
from lm_eval.models.huggingface import HFLM

from harness_tasks.lm import MuseHFLM
from quantizers import get_quantizer
from quantizers.saving import save_quantized


@pytest.mark.parametrize("name", ["rtn-int4", "rtn-int4-packed", "quanto-int8"])
def test_saved_quantized_model(name: str, model, tokenizer, tmp_path: Path) -> None:
    quantizer = get_quantizer(name)
    quantized = quantizer(copy.deepcopy(model))
    save_quantized(quantized, tmp_path, quantizer)
    tokenizer.save_pretrained(tmp_path)
    lm = MuseHFLM(pretrained=str(tmp_path), device="cpu")
    tokens = torch.arange(3, 40)[None]
    with torch.no_grad():
        assert lm.model(tokens).logits.equal(quantized(tokens).logits)


def test_simulated_grid_is_read_by_plain_hf(model, tokenizer, tmp_path: Path) -> None:
    quantizer = get_quantizer("rtn-int4")
    quantized = quantizer(copy.deepcopy(model))
    save_quantized(quantized, tmp_path, quantizer)
    tokenizer.save_pretrained(tmp_path)
    lm = HFLM(pretrained=str(tmp_path), device="cpu")
    tokens = torch.arange(3, 40)[None]
    with torch.no_grad():
        assert lm.model(tokens).logits.equal(quantized(tokens).logits)
