"""Checks of texts before the first request."""

from pathlib import Path

import pytest
from lm_eval.models.huggingface import HFLM
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from harness_tasks.errors import RequestError

from ..evaluating import evaluate, score


def test_text_longer_than_the_context(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, corpus_folder: Path
) -> None:
    """It is refused with text, length and limit, or cut on request, which the results show."""
    lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=4, max_length=60)
    with pytest.raises(RequestError, match=r"muse_auc: text 0 has \d+ tokens, the model holds 60"):
        evaluate(lm, corpus_folder, ["muse_auc"])
    with pytest.raises(RequestError, match=r"muse_knowmem: text 0 has \d+ tokens \(32 of them"):
        evaluate(lm, corpus_folder, ["muse_knowmem"])
    results = evaluate(lm, corpus_folder, ["muse_auc"], metadata={"truncate": True})
    assert score(results, "muse_auc", "truncated") == 1.0
    assert results["configs"]["muse_auc"]["metadata"]["truncate"] is True
    assert len(results["samples"]["muse_auc"][0]["resps"][0][0]["logprobs"]) == 59
    whole = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=4)
    results = evaluate(whole, corpus_folder, ["muse_auc"], metadata={"truncate": True})
    assert score(results, "muse_auc", "truncated") == 0.0
