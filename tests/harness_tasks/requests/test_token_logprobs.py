"""Token log-probabilities are independent of batch, memory and architecture."""

from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.models.huggingface import HFLM
from peft import LoraConfig, get_peft_model
from transformers import (
    CpmAntConfig,
    CpmAntForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

import harness_tasks
from harness_tasks.compat import make_request
from harness_tasks.errors import RequestError
from harness_tasks.requests.backends import huggingface
from harness_tasks.requests.install import install_requests
from harness_tasks.requests.types import TokenLogprobs, TokenOptions

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


@pytest.mark.parametrize("batch_size", [1, 2, 3, "auto"])
@pytest.mark.parametrize("logits_at_once", [2**24, 1000])
def test_equals_one_text_alone(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    batch_size: int | str,
    logits_at_once: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(huggingface, "LOGITS_AT_ONCE", logits_at_once)
    lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size)
    for text, result in zip(TEXTS, ask(lm, *TEXTS), strict=True):
        assert result["logprobs"] == pytest.approx(expected(model, tokenizer, text), abs=1e-5)
        assert result["truncated"] is False


def test_the_head_never_sees_a_whole_batch(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[int] = []
    hook = model.lm_head.register_forward_hook(
        lambda module, inputs, output: rows.append(output.numel() // output.shape[-1])
    )
    monkeypatch.setattr(huggingface, "LOGITS_AT_ONCE", 5 * model.config.vocab_size)
    ask(HFLM(pretrained=model, tokenizer=tokenizer, batch_size=3), *TEXTS)
    hook.remove()
    assert max(rows[2:]) == 5  # after the two of the first probe


def _capped(tokenizer: PreTrainedTokenizerFast) -> torch.nn.Module:
    """Make a Gemma 2, which caps its logits after the head, so that the halves would be wrong."""
    config = Gemma2Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        final_logit_softcapping=0.5,
        initializer_range=0.5,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    return Gemma2ForCausalLM(config).eval()


def _gpt2(tokenizer: PreTrainedTokenizerFast) -> torch.nn.Module:
    config = GPT2Config(
        vocab_size=len(tokenizer), n_embd=32, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=1
    )
    return GPT2LMHeadModel(config).eval()


def _adapted(tokenizer: PreTrainedTokenizerFast) -> torch.nn.Module:
    model = get_peft_model(
        _gpt2(tokenizer),  # type: ignore[arg-type]
        LoraConfig(target_modules=["c_attn"], init_lora_weights=False, fan_in_fan_out=True),
    )
    return model.eval()


def _sees_padding(tokenizer: PreTrainedTokenizerFast) -> torch.nn.Module:
    """Make a CPM-Ant, which attends to later tokens, padding included."""
    config = CpmAntConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_attention_heads=2,
        dim_head=16,
        dim_ff=64,
        num_hidden_layers=2,
        prompt_length=4,
    )
    model = CpmAntForCausalLM(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


@pytest.mark.parametrize(
    ("build", "in_halves"),
    [(_capped, False), (_gpt2, True), (_adapted, True), (_sees_padding, True)],
)
def test_other_architectures(
    tokenizer: PreTrainedTokenizerFast, build: Any, in_halves: bool
) -> None:
    torch.manual_seed(0)
    model = build(tokenizer)
    lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=3)
    with torch.no_grad():
        halves = huggingface._halves(lm, torch.tensor([[5, 6, 7, 8]]))
    assert (halves is not None) == in_halves
    for text, result in zip(TEXTS, ask(lm, *TEXTS), strict=True):
        assert result["logprobs"] == pytest.approx(expected(model, tokenizer, text), abs=1e-4)


def test_out_of_memory_shrinks_an_automatic_batch(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    score = huggingface._score_batch

    def limited(lm: Any, halves: Any, texts: Any) -> Any:
        sizes.append(len(texts))
        if len(texts) > 2:
            raise RuntimeError("CUDA out of memory.")
        return score(lm, halves, texts)

    monkeypatch.setattr(huggingface, "_score_batch", limited)
    lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size="auto", max_batch_size=4)
    results = ask(lm, *TEXTS, "And a fourth.", "And a fifth.")
    assert sizes[0] == 4
    assert sizes[-3:] == [2, 2, 1]
    assert results[0]["logprobs"] == pytest.approx(expected(model, tokenizer, TEXTS[0]), abs=1e-5)


def test_bfloat16_is_scored_in_float32(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    """A log-softmax in bfloat16 has steps of 1/64 above 2."""
    import copy

    low = copy.deepcopy(model).to(torch.bfloat16)
    (result,) = ask(HFLM(pretrained=low, tokenizer=tokenizer, batch_size=1), TEXTS[0])
    ids = tokenizer(TEXTS[0], return_tensors="pt")["input_ids"]
    with torch.no_grad():
        logprobs = low(ids).logits[0, :-1].float().log_softmax(-1)
    exact = logprobs.gather(-1, ids[0, 1:, None])[:, 0].tolist()
    assert result["logprobs"] == pytest.approx(exact, abs=1e-5)


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


class Entry(NamedTuple):
    """vLLM's ``Logprob`` of a prompt token."""

    logprob: float
    rank: int


class Output(NamedTuple):
    """The fields of vLLM's ``RequestOutput`` that are used."""

    prompt_logprobs: list[dict[int, Entry] | None]


class StandIn(Remote):
    """lm-eval's class for vLLM over a model of transformers, with vLLM's documented outputs."""

    max_length = 1024

    def __init__(self, model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
        super().__init__()
        self.model, self.tokenizer = model, tokenizer

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
