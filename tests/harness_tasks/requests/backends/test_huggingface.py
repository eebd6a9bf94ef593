"""Hugging Face models: log-probabilities independent of batch and memory, and the context."""

import copy
import math
from typing import Any

import pytest
import torch
from lm_eval.models.huggingface import HFLM
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    CpmAntConfig,
    CpmAntForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaForCausalLM,
    MptConfig,
    OPTConfig,
    PreTrainedTokenizerFast,
)

from harness_tasks.requests.backends import huggingface
from harness_tasks.requests.backends.huggingface import max_tokens

from ..asking import TEXTS, ask, expected


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
    low = copy.deepcopy(model).to(torch.bfloat16)
    (result,) = ask(HFLM(pretrained=low, tokenizer=tokenizer, batch_size=1), TEXTS[0])
    ids = tokenizer(TEXTS[0], return_tensors="pt")["input_ids"]
    with torch.no_grad():
        logprobs = low(ids).logits[0, :-1].float().log_softmax(-1)
    exact = logprobs.gather(-1, ids[0, 1:, None])[:, 0].tolist()
    assert result["logprobs"] == pytest.approx(exact, abs=1e-5)


@pytest.mark.parametrize(
    ("config", "given", "held"),
    [
        (GPT2Config(n_positions=64), None, 64),
        (GPT2Config(n_positions=64), 5000, 64),
        (GPT2Config(n_positions=64), 32, 32),
        (OPTConfig(max_position_embeddings=64), 5000, 64),  # a table of 66 rows
        (MptConfig(max_seq_len=64), None, 64),
        (MptConfig(max_seq_len=64), 5000, 64),
        (BloomConfig(), None, 3000),
        (BloomConfig(), 100, 100),
    ],
)
def test_context(
    tokenizer: PreTrainedTokenizerFast, config: Any, given: int | None, held: int
) -> None:
    """Context of a model if 3000 tokens are needed, with and without a limit of the user."""
    config.update({"vocab_size": 320, "hidden_size": 48, "num_hidden_layers": 1})
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    lm = HFLM(pretrained=model, tokenizer=tokenizer, max_length=given)
    for _ in range(2):
        assert max_tokens(lm, 3000) == lm.max_length == held


def test_statistics_by_hand() -> None:
    """Probabilities 1/2, 1/4, 1/4, in units of log 2: mean -3/2, deviation 1/2; then one certain.

    The log-probability of the certain token has no deviation, and that of another is minus
    infinity.
    """
    logits = torch.tensor([[2.0, 1.0, 1.0]] * 2).mul(math.log(2))
    certain = torch.tensor([[-math.inf, 0.0, -math.inf]])
    result = huggingface._statistics(
        torch.cat([logits, certain]), torch.tensor([0, 2, 0]), {"greedy", "moments"}
    )
    bit = math.log(2)
    assert result["logprobs"].tolist() == pytest.approx([-bit, -2 * bit, -math.inf])
    assert result["greedy"].tolist() == [True, False, False]
    assert result["means"].tolist() == pytest.approx([-1.5 * bit, -1.5 * bit, 0])
    assert result["deviations"].tolist() == pytest.approx([bit / 2, bit / 2, 0])
    assert huggingface._statistics(logits, torch.tensor([0, 2]), set()).keys() == {"logprobs"}
