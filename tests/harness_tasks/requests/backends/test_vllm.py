"""Log-probabilities from vLLM's documented outputs."""

from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from lm_eval.api.model import LM
from lm_eval.models.huggingface import HFLM
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

import harness_tasks
from harness_tasks.errors import RequestError
from harness_tasks.requests.backends import vllm
from harness_tasks.requests.install import install_requests
from harness_tasks.requests.types import EncodedText

install_requests()


class Entry(NamedTuple):
    """vLLM's ``Logprob`` of a prompt token."""

    logprob: float
    rank: int


class Output(NamedTuple):
    """The fields of vLLM's ``RequestOutput`` that are used."""

    prompt_logprobs: list[dict[int, Entry] | None]


class StandIn(LM):
    """lm-eval's class for vLLM over a model of transformers, with vLLM's documented outputs."""

    max_length = 1024

    def __init__(self, model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
        super().__init__()
        self.model, self.tokenizer = model, tokenizer

    def loglikelihood(self, requests: Any) -> Any:
        raise NotImplementedError

    def loglikelihood_rolling(self, requests: Any) -> Any:
        raise NotImplementedError

    def generate_until(self, requests: Any) -> Any:
        raise NotImplementedError

    def tok_encode(self, string: str) -> list[int]:
        return self.tokenizer(string)["input_ids"]

    def _model_generate(self, requests: list[list[int]], generate: bool) -> list[Output]:
        assert not generate  # or lm-eval would not ask for prompt_logprobs=1
        return [self._output(torch.tensor(ids)) for ids in requests]

    @torch.no_grad()
    def _output(self, ids: torch.Tensor) -> Output:
        positions: list[dict[int, Entry] | None] = [None]
        for row, token in zip(
            self.model(ids[None]).logits[0].log_softmax(-1), ids[1:], strict=False
        ):
            chosen = {int(row.argmax()): Entry(float(row.max()), 1)}
            rank = int((row > row[token]).sum()) + 1
            positions.append(chosen | {int(token): Entry(float(row[token]), rank)})
        return Output(positions)


StandIn.__module__, StandIn.__qualname__ = "lm_eval.models.vllm_causallms", "VLLM"


def test_vllm(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, corpus_folder: Path
) -> None:
    """Scores equal those of ``hf``, Min-K%++ is refused, and vLLM needs one token of context."""
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    manager = TaskManager(
        include_path=str(Path(harness_tasks.__file__).parent / "muse"),
        include_defaults=False,
        metadata={"corpus": str(corpus_folder)},
    )
    tasks = ["muse_privleak", "muse_memorization"]
    lm = StandIn(model, tokenizer)
    ours = simple_evaluate(model=lm, tasks=tasks, task_manager=manager)
    theirs = simple_evaluate(
        model=HFLM(pretrained=model, tokenizer=tokenizer), tasks=tasks, task_manager=manager
    )
    for task in tasks:
        for name, value in theirs["results"][task].items():
            assert ours["results"][task][name] == pytest.approx(value), name
    with pytest.raises(RequestError, match="vLLM does not give: evaluate with --model hf"):
        simple_evaluate(model=lm, tasks=["muse_mia"], task_manager=manager)
    lm.max_length = 40
    with pytest.raises(RequestError, match=r"has \d+ tokens, the model holds 39"):
        simple_evaluate(model=lm, tasks=["muse_privleak"], task_manager=manager)


def test_results_are_those_of_the_texts_own_tokens() -> None:
    """Token 7 is the context; 5 is the most likely token, 6 the third; the rest is not read."""
    positions: list[dict[int, Entry] | None] = [None, {5: Entry(-0.5, 1)}]
    positions.append({9: Entry(-0.1, 1), 6: Entry(-3.0, 3)})

    class Fixed:
        max_length = 8

        def _model_generate(self, requests: list[list[int]], generate: bool) -> list[Output]:
            assert requests == [[7, 5, 6], [7, 5, 6]]
            return [Output(positions)] * 2

    plain = EncodedText([7, 5, 6], 2, True, set())
    greedy = EncodedText([7, 5, 6], 1, False, {"greedy"})
    assert vllm.score(Fixed(), [plain, greedy]) == [
        {"logprobs": [-3.0], "truncated": True},
        {"logprobs": [-0.5, -3.0], "truncated": False, "greedy": [True, False]},
    ]
    assert vllm.max_tokens(Fixed(), 100) == 7
