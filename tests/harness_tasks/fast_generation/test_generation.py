"""Texts of ``hf-muse`` equal those of plain ``generate`` for one prompt at a time."""

from typing import Any

import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
    StopStringCriteria,
)

from harness_tasks.compat import make_request
from harness_tasks.fast_generation import generation, prefix_cache
from harness_tasks.lm import MuseHFLM

SHARED = "Question: Where does Mila 1 live?\nAnswer: in Bern\n\n" * 3
ENDS = ["Question: Where?\nAnswer: ", "Mila 17 lives in", "Q", "Her friends from Gent came to see"]
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
TOKENS = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}


def build(cls: Any, config: type, tokenizer: PreTrainedTokenizerFast, **settings: Any) -> Any:
    """Make a random model with weights large enough for its text to vary."""
    torch.manual_seed(0)
    model = cls(config(vocab_size=len(tokenizer), **settings))
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


ARCHITECTURES = {
    "grouped-query": lambda t: build(
        LlamaForCausalLM,
        LlamaConfig,
        t,
        num_key_value_heads=2,
        intermediate_size=64,
        **SMALL,
        **TOKENS,
    ),
    "qwen3": lambda t: build(
        Qwen3ForCausalLM,
        Qwen3Config,
        t,
        num_key_value_heads=1,
        head_dim=16,
        intermediate_size=64,
        **SMALL,
        **TOKENS,
    ),
    "gpt-neox": lambda t: build(
        GPTNeoXForCausalLM, GPTNeoXConfig, t, intermediate_size=64, **SMALL, **TOKENS
    ),
    "gpt2": lambda t: build(
        GPT2LMHeadModel, GPT2Config, t, n_embd=32, n_layer=2, n_head=4, **TOKENS
    ),
}


def request(text: str, task: str = "task", **settings: Any) -> Instance:
    settings = {"do_sample": False, "max_gen_toks": 24, "until": [], **settings}
    return make_request("generate_until", {}, (text, settings), task=task)


def expected(model: Any, tokenizer: PreTrainedTokenizerFast, instance: Instance) -> str:
    text, settings = instance.args
    ids = tokenizer(text, return_tensors="pt")["input_ids"]
    output = model.generate(
        ids, max_new_tokens=settings["max_gen_toks"], do_sample=False, pad_token_id=1
    )
    response = tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True)
    for stop in settings["until"]:
        response = response.split(stop)[0]
    return response


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("prefix", [SHARED, ""])
def test_other_architectures(
    tokenizer: PreTrainedTokenizerFast, architecture: str, prefix: str
) -> None:
    model = ARCHITECTURES[architecture](tokenizer)
    assert prefix_cache.is_exact(model)
    requests = [request(prefix + end) for end in ENDS]
    texts = [expected(model, tokenizer, each) for each in requests]
    assert len(set(texts)) > 1
    for batch_size in (1, 3, 4):
        lm = MuseHFLM(model, tokenizer=tokenizer, batch_size=batch_size)
        assert lm.generate_until(requests) == texts
    assert model.config._attn_implementation == "sdpa"


@pytest.mark.parametrize("batch_tokens", [1, 40, 10_000])
def test_memory_of_prompts_is_bounded(
    tokenizer: PreTrainedTokenizerFast,
    model: LlamaForCausalLM,
    batch_tokens: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Prompts are read a few rows at a time, with the same result."""
    monkeypatch.setattr(prefix_cache, "BATCH_TOKENS", batch_tokens)
    requests = [request(end) for end in ENDS]
    lm = MuseHFLM(model, tokenizer=tokenizer, batch_size=4)
    texts = [expected(model, tokenizer, each) for each in requests]
    sizes: list[int] = []
    hook = model.model.register_forward_pre_hook(
        lambda module, args, kwargs: sizes.append(
            (args[0] if args else kwargs["input_ids"]).numel()
        ),
        with_kwargs=True,
    )
    assert lm.generate_until(requests) == texts
    hook.remove()
    longest = max(len(tokenizer(end)["input_ids"]) for end in ENDS)
    assert max(sizes) <= max(batch_tokens, longest)


def test_shared_prefix_is_read_once(
    tokenizer: PreTrainedTokenizerFast, model: LlamaForCausalLM
) -> None:
    """Two tasks have a prefix each, in any order of their requests."""
    requests = [
        request(prefix + end, task)
        for end in ENDS
        for task, prefix in (("one", SHARED), ("two", "Mila 2 lives in Cove. " * 5))
    ]
    texts = [expected(model, tokenizer, each) for each in requests]
    read: list[int] = []
    hook = model.model.register_forward_pre_hook(
        lambda module, args, kwargs: read.append(
            (args[0] if args else kwargs["input_ids"]).numel()
        ),
        with_kwargs=True,
    )
    lm = MuseHFLM(model, tokenizer=tokenizer, batch_size=2)
    assert lm.generate_until(requests) == texts
    hook.remove()
    prompts = sum(len(tokenizer(each.args[0])["input_ids"]) for each in requests)
    generated = len(requests) * 24
    assert sum(read) - generated < prompts / 2


def test_stop_strings_end_a_row(
    tokenizer: PreTrainedTokenizerFast, model: LlamaForCausalLM
) -> None:
    """Texts are cut as by lm-eval, and generation ends when every row has its stop string."""
    requests = [request(end, until=[" "]) for end in ENDS[:2]]
    texts = [expected(model, tokenizer, each) for each in requests]
    steps: list[int] = []
    hook = model.lm_head.register_forward_hook(lambda *_: steps.append(1))
    lm = MuseHFLM(model, tokenizer=tokenizer, batch_size=2)
    assert lm.generate_until(requests) == texts
    hook.remove()
    assert len(steps) < 24
    assert (
        HFLM(pretrained=model, tokenizer=tokenizer, batch_size=2).generate_until(requests) == texts
    )


def test_stop_string_that_begins_in_the_prompt(tokenizer: PreTrainedTokenizerFast) -> None:
    """Only generated text counts, unlike in transformers' StopStringCriteria."""
    prompt = tokenizer.encode("Answer:\n")
    ids = torch.tensor([[*prompt, *tokenizer.encode("\n", add_special_tokens=False)]])
    ours = generation.StopStrings(tokenizer, ["\n\n"], len(prompt), 1)
    theirs = StopStringCriteria(tokenizer=tokenizer, stop_strings=["\n\n"])
    assert not ours(ids, None)  # type: ignore[arg-type]
    assert theirs(ids, None)  # type: ignore[arg-type]


def test_end_of_text_ends_a_row(tokenizer: PreTrainedTokenizerFast) -> None:
    """Tokens after the end token are not decoded, while other rows of the batch continue."""
    model = ARCHITECTURES["grouped-query"](tokenizer)
    requests = [request(end) for end in ENDS]
    ids = tokenizer(ENDS[0], return_tensors="pt")["input_ids"]
    output = model.generate(ids, max_new_tokens=24, do_sample=False, pad_token_id=1)
    model.generation_config.eos_token_id = [1, int(output[0, ids.shape[1] + 3])]
    texts = [expected(model, tokenizer, each) for each in requests]
    assert len({len(tokenizer(text)["input_ids"]) for text in texts}) > 1
    lm = MuseHFLM(model, tokenizer=tokenizer, batch_size=4)
    assert lm.generate_until(requests) == texts


def _gemma2(tokenizer: PreTrainedTokenizerFast) -> Any:
    return build(
        Gemma2ForCausalLM,
        Gemma2Config,
        tokenizer,
        num_key_value_heads=2,
        head_dim=8,
        intermediate_size=64,
        **SMALL,
        **TOKENS,
    )


def _mamba(tokenizer: PreTrainedTokenizerFast) -> Any:
    return build(
        MambaForCausalLM, MambaConfig, tokenizer, hidden_size=32, num_hidden_layers=2, **TOKENS
    )


@pytest.mark.parametrize("architecture", [_gemma2, _mamba])
def test_models_with_another_cache_are_left_to_hf(
    tokenizer: PreTrainedTokenizerFast, architecture: Any
) -> None:
    """Sliding windows, capped attention, recurrent states."""
    model = architecture(tokenizer)
    lm = MuseHFLM(model, tokenizer=tokenizer, batch_size=1)
    requests = [request(end) for end in ENDS]
    assert not generation.is_supported(lm, requests)
    assert lm.generate_until(requests) == [expected(model, tokenizer, each) for each in requests]


def test_attention_that_differs_is_noticed(
    tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Models with another attention than scaled dot products do not get ours."""
    model = ARCHITECTURES["grouped-query"](tokenizer)
    assert prefix_cache.is_exact(model)
    for layer in model.model.layers:
        monkeypatch.setattr(layer.self_attn, "scaling", 0.5)
    assert prefix_cache.is_exact(model)  # the scaling is passed to our attention
    plain = prefix_cache.sdpa_attention_forward

    def with_sink(module: Any, *args: Any, **kwargs: Any) -> Any:
        output, weights = plain(module, *args, **kwargs)
        return 0.9 * output, weights

    from transformers import AttentionInterface

    AttentionInterface.register("with_sink", with_sink)
    prefix_cache.AttentionMaskInterface.register("with_sink", prefix_cache.sdpa_mask)
    model.set_attn_implementation("with_sink")
    assert not prefix_cache.is_exact(model)


@pytest.mark.parametrize(
    "settings", [{"do_sample": True, "temperature": 0.7}, {"num_beams": 2}, {"top_k": 3}]
)
def test_only_greedy_decoding_is_ours(
    tokenizer: PreTrainedTokenizerFast, model: LlamaForCausalLM, settings: dict[str, Any]
) -> None:
    lm = MuseHFLM(model, tokenizer=tokenizer, batch_size=1)
    assert generation.is_supported(lm, [request("Mila")])
    assert not generation.is_supported(lm, [request("Mila"), request("Mila", **settings)])


def test_responses_are_cached_like_hfs(
    tokenizer: PreTrainedTokenizerFast, model: LlamaForCausalLM
) -> None:
    kept: list[tuple[Any, ...]] = []
    lm = MuseHFLM(model, tokenizer=tokenizer, batch_size=2)
    lm.cache_hook.add_partial = lambda *entry: kept.append(entry)  # type: ignore[method-assign]
    requests = [request(end) for end in ENDS]
    texts = lm.generate_until(requests)
    assert sorted(kept, key=str) == sorted(
        (("generate_until", each.args, text) for each, text in zip(requests, texts, strict=True)),
        key=str,
    )
