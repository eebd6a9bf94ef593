"""Tokenizers that add tokens, or have tokens without an embedding."""

import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lm_eval.models.huggingface import HFLM
from tokenizers.processors import TemplateProcessing
from transformers import (
    ByT5Tokenizer,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from harness_tasks.errors import RequestError
from harness_tasks.lm import MuseHFLM
from harness_tasks.requests import tokenizing

from ..evaluating import evaluate

ADDED = [("<s>", 0), ("</s>", 1)]


TASKS = ["muse_verbmem", "muse_knowmem", "muse_auc", "muse_mia", "muse_memorization"]


classes = pytest.mark.parametrize("kind", [HFLM, MuseHFLM])


def around(tokenizer: PreTrainedTokenizerFast, template: str) -> PreTrainedTokenizerFast:
    """Copy a tokenizer with other tokens around a text."""
    changed = copy.deepcopy(tokenizer)
    processor = TemplateProcessing(single=template, special_tokens=ADDED)
    changed.backend_tokenizer.post_processor = processor
    return changed


@pytest.fixture
def unreachable(model: LlamaForCausalLM, monkeypatch: pytest.MonkeyPatch) -> None:
    def forward(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("the model was run")

    monkeypatch.setattr(model, "forward", forward)


@classes
def test_appended_tokens_are_left_out(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    corpus_folder: Path,
    caplog: pytest.LogCaptureFixture,
    kind: type[HFLM],
) -> None:
    """Scores are those without them, with one warning; the tokenizer is restored afterwards."""
    tokenizing._warn_after.cache_clear()
    plain = kind(pretrained=model, tokenizer=tokenizer, batch_size=4)
    appending = around(tokenizer, "<s> $A </s>")
    lm = kind(pretrained=model, tokenizer=appending, batch_size=4)
    results = evaluate(lm, corpus_folder, TASKS, limit=2)
    expected = evaluate(plain, corpus_folder, TASKS, limit=2)
    assert results["results"] == expected["results"]
    for task in ("muse_verbmem", "muse_memorization"):
        answers = [[s["resps"] for s in r["samples"][task]] for r in (results, expected)]
        assert answers[0] == answers[1]
    (warning,) = [r.message for r in caplog.records if "appends" in r.message]
    assert warning.startswith("The tokenizer appends </s> to every text")
    assert lm.tokenizer is appending
    assert appending.encode("a")[-1] == 1


def test_tokens_before_a_text_stay(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    corpus_folder: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """They stay as in MUSE, with a warning about others than BOS."""
    tokenizing._warn_before.cache_clear()
    other = around(tokenizer, "<s> </s> $A </s>")
    lm = HFLM(pretrained=model, tokenizer=other, batch_size=4)
    results = evaluate(lm, corpus_folder, ["muse_auc"], limit=2)
    sample = results["samples"]["muse_auc"][0]
    ids = torch.tensor([[0, 1, *tokenizer.encode(sample["doc"]["text"], add_special_tokens=False)]])
    with torch.no_grad():
        logprobs = model(ids).logits[0, :-1].log_softmax(-1)
    expected = logprobs.gather(-1, ids[0, 1:, None])[:, 0].tolist()
    assert sample["resps"][0][0]["logprobs"] == pytest.approx(expected, abs=1e-5)
    (warning,) = [r.message for r in caplog.records if "before every text" in r.message]
    assert "puts <s> </s> before" in warning


def test_a_tokenizer_that_cannot_be_changed_is_refused() -> None:
    lm: Any = SimpleNamespace(tokenizer=ByT5Tokenizer())
    with (
        pytest.raises(RequestError, match=r"ByT5Tokenizer.*add_eos_token=False"),
        tokenizing.text_tokenizer(lm),
    ):
        pass


@classes
def test_padding_without_an_embedding(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    corpus_folder: Path,
    kind: type[HFLM],
) -> None:
    """Scores with a padding token that the model lacks are those of padding with EOS."""
    padded = copy.deepcopy(tokenizer)
    padded.add_special_tokens({"pad_token": "<pad>"})
    assert padded.pad_token_id == len(model.get_input_embeddings().weight)
    results, expected = (
        evaluate(
            kind(pretrained=model, tokenizer=each, batch_size=4), corpus_folder, ["muse_knowmem"]
        )
        for each in (padded, tokenizer)
    )
    assert results["results"] == expected["results"]


@pytest.mark.usefixtures("unreachable")
@pytest.mark.parametrize("task", [*TASKS, "muse_privleak", "muse_utility"])
def test_text_with_a_token_that_the_model_lacks(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, corpus_folder: Path, task: str
) -> None:
    added = copy.deepcopy(tokenizer)
    added.add_tokens(["Mila"])
    lm = HFLM(pretrained=model, tokenizer=added, batch_size=4)
    rows = len(model.get_input_embeddings().weight)
    message = rf"{task}: text 0 has token {rows} \(Mila\), the model has embeddings of {rows}"
    with pytest.raises(RequestError, match=message) as error:
        evaluate(lm, corpus_folder, [task], limit=2)
    assert "\n" not in str(error.value)


@pytest.mark.usefixtures("unreachable")
def test_texts_are_checked_before_anything_is_generated(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, corpus_folder: Path
) -> None:
    """The unknown token is in PrivLeak's texts only."""
    added = copy.deepcopy(tokenizer)
    added.add_tokens(["friends"])
    lm = HFLM(pretrained=model, tokenizer=added)
    with pytest.raises(RequestError, match=r"muse_auc: text 0 has token \d+ \(friends\)"):
        evaluate(lm, corpus_folder, ["muse_verbmem", "muse_auc"])


@pytest.mark.usefixtures("unreachable")
def test_no_room_for_a_prompt(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, corpus_folder: Path
) -> None:
    """A model with a context of 128 tokens cannot generate 128, even with cut prompts."""
    lm = HFLM(pretrained=model, tokenizer=tokenizer, max_length=128)
    with pytest.raises(RequestError, match="generates 128 tokens, the model holds 128"):
        evaluate(lm, corpus_folder, ["muse_verbmem"], metadata={"truncate": True})


@pytest.mark.usefixtures("unreachable")
def test_the_tokenizer_does_not_cut_unseen(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, corpus_folder: Path
) -> None:
    """lm-eval's ``truncation=True`` with a tokenizer that has its own limit."""
    limited = copy.deepcopy(tokenizer)
    limited.model_max_length = 20
    lm = HFLM(pretrained=model, tokenizer=limited, truncation=True)
    with pytest.raises(RequestError, match=r"muse_knowmem: text 0 has .* the model holds 20;"):
        evaluate(lm, corpus_folder, ["muse_knowmem"])
