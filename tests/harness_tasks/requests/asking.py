"""Requests for token log-probabilities, and what they must give."""

import torch
from lm_eval.api.model import LM
from transformers import PreTrainedTokenizerFast

from harness_tasks.compat import make_request
from harness_tasks.requests.install import install_requests
from harness_tasks.requests.types import TokenLogprobs

install_requests()

TEXTS = ["Mila 1 lives in Bern and was born in Esk.", "Her friends came.", "They liked number 4."]


def ask(lm: LM, *texts: str) -> list[TokenLogprobs]:
    requests = [
        make_request("token_logprobs", {}, (text, {}), task="muse_privleak", doc_id=number)
        for number, text in enumerate(texts)
    ]
    return lm.token_logprobs(requests)  # type: ignore[attr-defined]


def expected(model: torch.nn.Module, tokenizer: PreTrainedTokenizerFast, text: str) -> list[float]:
    """Score one text alone by log-softmax over all logits."""
    ids = tokenizer(text, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        logprobs = model(ids).logits[0, :-1].log_softmax(-1)
    return logprobs.gather(-1, ids[0, 1:, None])[:, 0].tolist()
