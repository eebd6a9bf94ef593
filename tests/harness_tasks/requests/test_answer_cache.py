"""Answers in lm-eval's cache."""

from pathlib import Path
from typing import Any

import pytest
from lm_eval.models.huggingface import HFLM
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from ..evaluating import evaluate


def test_use_cache_serves_every_kind_of_response(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    corpus_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def run() -> dict[str, Any]:
        lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=4)
        return evaluate(lm, corpus_folder, ["muse"], use_cache=str(tmp_path / "cache"), limit=4)

    first = run()

    def unreachable(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("the model was run again")

    monkeypatch.setattr(model, "forward", unreachable)
    assert run()["results"] == first["results"]
