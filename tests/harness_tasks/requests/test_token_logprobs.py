"""Requests for token log-probabilities: shared passes, empty texts, other backends."""

from pathlib import Path
from typing import Any

import pytest
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.models.huggingface import HFLM
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

import harness_tasks
from harness_tasks.compat import make_request
from harness_tasks.errors import RequestError
from harness_tasks.requests.types import TokenLogprobs, TokenOptions

from .asking import TEXTS, ask, expected


def test_requests_on_the_same_text_share_a_forward_pass(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    """Each gets the requested statistics; a context is not scored."""
    lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=4)
    options: list[TokenOptions] = [
        {},
        {"statistics": ["greedy"]},
        {"statistics": ["moments"]},
        {"context": TEXTS[0]},
    ]
    requests = [make_request("token_logprobs", {}, (TEXTS[1], each)) for each in options]
    rows: list[int] = []
    hook = model.model.register_forward_hook(lambda m, a, output: rows.append(len(output[0])))
    plain, greedy, moments, after = lm.token_logprobs(requests)  # type: ignore[attr-defined]
    hook.remove()
    assert rows[4:] == [2]  # after those of the two probes: two texts in one batch
    assert plain["logprobs"] == greedy["logprobs"] == moments["logprobs"]
    assert len(greedy["greedy"]) == len(moments["means"]) == len(plain["logprobs"])
    whole = expected(model, tokenizer, TEXTS[0] + TEXTS[1])
    context = len(tokenizer(TEXTS[0])["input_ids"])
    assert after["logprobs"] == pytest.approx(whole[context - 1 :], abs=1e-5)


def test_text_without_a_token_to_score(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=1)
    with pytest.raises(RequestError, match=r"text 1 has no token to score after the first 1"):
        ask(lm, "enough", "")


class Remote(LM):
    """A backend that only generates."""

    def loglikelihood(self, requests: Any) -> Any:
        raise NotImplementedError

    def loglikelihood_rolling(self, requests: Any) -> Any:
        raise NotImplementedError

    def generate_until(self, requests: list[Instance]) -> list[str]:
        return ["in Bern\n\nQuestion: more" for _ in requests]


class Able(Remote):
    """A backend with its own log-probabilities."""

    def token_logprobs(self, requests: list[Instance]) -> list[TokenLogprobs]:
        return [{"logprobs": [-float(len(r.args[0]))], "truncated": False} for r in requests]


def test_backend_that_only_generates(corpus_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Generation tasks work, with a warning about the uncut reference; PrivLeak is refused."""
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    manager = TaskManager(
        include_path=str(Path(harness_tasks.__file__).parent / "muse"),
        include_defaults=False,
        metadata={"corpus": str(corpus_folder)},
    )
    results = simple_evaluate(
        model=Remote(), tasks=["muse_knowmem", "muse_verbmem"], task_manager=manager
    )
    # one answer in six is "in Bern"; the others share "in": 2 · 1/2 · 1/2 / 1
    assert results["results"]["muse_knowmem"]["knowmem,none"] == pytest.approx(
        100 * (1 + 5 / 2) / 6
    )
    assert sum("compared whole" in record.message for record in caplog.records) == 1
    with pytest.raises(
        RequestError,
        match=r"class Remote gives no log-probability.*--model hf, hf-muse and vllm do",
    ):
        simple_evaluate(model=Remote(), tasks=["muse_auc"], task_manager=manager)
    results = simple_evaluate(model=Able(), tasks=["muse_auc"], task_manager=manager)
    assert 0 <= results["results"]["muse_auc"]["auc,none"] <= 1
