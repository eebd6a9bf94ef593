"""Greedy decoding independent of the model's generation_config.json."""

import logging
from pathlib import Path
from typing import Any

import pytest
import transformers
from lm_eval.api.instance import Instance
from lm_eval.api.model import CachingLM
from lm_eval.models.huggingface import HFLM
from peft import LoraConfig, get_peft_model
from transformers import GenerationConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from harness_tasks.compat import make_request
from harness_tasks.lm import MuseHFLM
from harness_tasks.requests import decoding
from harness_tasks.requests.decoding import greedy_until, neutral_config, own_settings
from harness_tasks.requests.install import install_requests

PROMPTS = ["Mila 3 lives in", "Mila 4 lives in Esk and was", "Her friends from"]
TRICKS: dict[str, Any] = {
    "repetition_penalty": 1.3,
    "no_repeat_ngram_size": 2,
    "bad_words_ids": [[262], [263], [264], [265], [270], [280]],
    "suppress_tokens": [*range(260, 320)],
    "sequence_bias": [[[index], -20.0] for index in range(260, 320)],
    "exponential_decay_length_penalty": [2, 4.0],
    "num_beams": 3,
    "max_time": 1e-9,
    "eos_token_id": [1, *range(260, 320)],
    "forced_eos_token_id": 5,
}


def requests(kind: str = "greedy_until") -> list[Instance]:
    settings = {"until": ["\n\n"], "do_sample": False, "max_gen_toks": 24}
    return [make_request(kind, {}, (prompt, settings), task="task") for prompt in PROMPTS]


def greedy(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> list[str]:
    """Generate the most likely token 24 times."""
    texts = []
    for prompt in PROMPTS:
        ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
        start = ids.shape[1]
        for _ in range(24):
            ids = ids.new_tensor([[*ids[0], model(ids).logits[0, -1].argmax()]])
            if ids[0, -1] == tokenizer.eos_token_id:
                break
        text = tokenizer.decode(ids[0, start:], skip_special_tokens=True)
        texts.append(text.split("\n\n")[0])
    return texts


@pytest.fixture
def tricked(model: LlamaForCausalLM, request: pytest.FixtureRequest) -> LlamaForCausalLM:
    own = model.generation_config
    model.generation_config = GenerationConfig(eos_token_id=1, bos_token_id=0)
    model.generation_config.update(**request.param)
    yield model
    model.generation_config = own


@pytest.mark.parametrize("cls", [HFLM, MuseHFLM])
@pytest.mark.parametrize("tricked", [{k: v} for k, v in TRICKS.items()], indirect=True, ids=TRICKS)
def test_tricks_have_no_effect(
    cls: Any, tricked: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    install_requests()
    own = tricked.generation_config
    lm = cls(tricked, tokenizer=tokenizer, batch_size=2)
    texts = greedy(tricked, tokenizer)
    assert lm.greedy_until(requests()) == texts
    assert tricked.generation_config is own
    assert lm.generate_until(requests("generate_until")) != texts


@pytest.mark.parametrize("tricked", [{"suppress_tokens": [*range(260, 320)]}], indirect=True)
def test_other_tasks_keep_them(
    tricked: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, caplog: pytest.LogCaptureFixture
) -> None:
    """lm-eval's tasks keep the settings in the same run; ours warn once about ignored ones."""
    decoding._warn_ignored.cache_clear()
    lm = HFLM(tricked, tokenizer=tokenizer)
    texts = greedy(tricked, tokenizer)
    with caplog.at_level(logging.WARNING):
        assert greedy_until(lm, requests()) == texts
        assert greedy_until(lm, requests()) == texts
    (message,) = [r.message for r in caplog.records if r.name == decoding.__name__]
    assert "suppress_tokens" in message
    assert lm.generate_until(requests("generate_until")) != texts


@pytest.mark.parametrize("tricked", [{"suppress_tokens": [*range(260, 320)]}], indirect=True)
def test_model_with_adapter(tricked: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    texts, own = greedy(tricked, tokenizer), tricked.generation_config
    adapted = get_peft_model(tricked, LoraConfig(target_modules=["q_proj"], task_type="CAUSAL_LM"))
    lm = HFLM(adapted, tokenizer=tokenizer)
    assert greedy_until(lm, requests()) == texts
    assert adapted.generation_config is own
    adapted.unload()


def test_answers_come_from_the_cache(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    install_requests()
    lm = HFLM(model, tokenizer=tokenizer)
    cached = CachingLM(lm, str(tmp_path / "answers.db"))
    first = cached.greedy_until(requests()[:2])
    asked: list[str] = []

    def generate_until(missing: list[Instance]) -> list[str]:
        asked.extend(instance.args[0] for instance in missing)
        return ["new"] * len(missing)

    monkeypatch.setattr(lm, "generate_until", generate_until)
    assert cached.greedy_until(requests()) == [*first, "new"]
    assert cached.greedy_until(requests()) == [*first, "new"]
    assert asked == PROMPTS[2:]


def test_ids_are_kept(tokenizer: PreTrainedTokenizerFast) -> None:
    """A model may have several end tokens, all of them special."""
    tokenizer = type(tokenizer)(
        tokenizer_object=tokenizer.backend_tokenizer, bos_token="<s>", eos_token="</s>"
    )
    tokenizer.add_special_tokens({"additional_special_tokens": ["<end_of_turn>"]})
    turn = tokenizer.convert_tokens_to_ids("<end_of_turn>")
    own = GenerationConfig(eos_token_id=[turn, 300], pad_token_id=7, temperature=0.5, top_k=3)
    assert neutral_config(own, tokenizer).to_diff_dict() == {
        "eos_token_id": [1, turn],
        "pad_token_id": 7,
        "transformers_version": transformers.__version__,
    }


def test_own_settings(model: LlamaForCausalLM) -> None:
    own = model.generation_config
    model.generation_config = GenerationConfig(repetition_penalty=1.05, eos_token_id=[1, 2])
    assert own_settings(model) == {"repetition_penalty": 1.05, "eos_token_id": [1, 2]}
    model.generation_config = own
