"""A tokenizer without an EOS token: ``hf-muse`` works, ``hf`` says what is missing."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from lm_eval.models.huggingface import HFLM
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from harness_tasks import scoring
from harness_tasks.errors import RequestError
from harness_tasks.fast_generation import generation
from harness_tasks.lm import MuseHFLM

from ..evaluating import evaluate

STOPS = ["\n\n", "\nQuestion", "Question:"]


def without_eos(tokenizer: PreTrainedTokenizerFast, *, bos: bool) -> PreTrainedTokenizerFast:
    """The same tokens; without BOS, none is put in front of a text either."""
    backend = copy.deepcopy(tokenizer.backend_tokenizer)
    if bos:
        return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>")
    backend.post_processor = None
    return PreTrainedTokenizerFast(tokenizer_object=backend)


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("bos", [True, False])
def test_hf_muse_generates_to_a_stop_string_or_the_last_token(
    byte_level: Any, corpus_folder: Path, monkeypatch: pytest.MonkeyPatch, bos: bool, fast: bool
) -> None:
    """Each response is plain ``generate``'s, alone and without an end token.

    By our own generate, and by HFLM's, which serves models whose cache is not plain. The model's
    configuration names an end token, which is an ordinary one to this tokenizer.
    """
    if not fast:
        monkeypatch.setattr(generation, "is_supported", lambda *args: False)
    tokenizer, model = without_eos(byte_level[0], bos=bos), byte_level[1]
    space = tokenizer.encode(" in", add_special_tokens=False)[0]
    monkeypatch.setattr(model.generation_config, "eos_token_id", space)
    lm = MuseHFLM(pretrained=model, tokenizer=tokenizer, batch_size=4)
    results = evaluate(lm, corpus_folder, ["muse"])
    ended = []
    for task, length, stops in (("muse_verbmem", 128, []), ("muse_knowmem", 32, STOPS)):
        for sample in results["samples"][task]:
            ids = tokenizer(sample["arguments"][0][0], return_tensors="pt")["input_ids"]
            output = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=length,
                do_sample=False,
                eos_token_id=None,
                pad_token_id=0,
            )[0, ids.shape[1] :]
            text = tokenizer.decode(output, skip_special_tokens=True)
            assert len(output) == length
            assert sample["resps"][0][0] == scoring.cut_at(text, stops)
            ended.append(bool(space in output))
    assert any(ended)
    for metric in ("verbmem", "knowmem", "utility", "privleak"):
        assert isinstance(results["results"][f"muse_{metric}"][f"{metric},none"], float)
    assert lm.tokenizer.pad_token_id < model.config.vocab_size


@pytest.mark.parametrize("bos", [True, False])
def test_hf_is_refused_in_one_line(byte_level: Any, corpus_folder: Path, bos: bool) -> None:
    """For whatever is to be generated; a text is scored where there is a BOS token at least."""
    tokenizer = without_eos(byte_level[0], bos=bos)
    lm = HFLM(pretrained=byte_level[1], tokenizer=tokenizer, batch_size=4)
    message = "has no EOS token, which lm-eval's model class HFLM needs: set one, or .*hf-muse"
    for task in ("muse_verbmem", "muse_knowmem"):
        with pytest.raises(RequestError, match=message) as error:
            evaluate(lm, corpus_folder, [task], limit=2)
        assert "\n" not in str(error.value)
    if bos:
        results = evaluate(lm, corpus_folder, ["muse_auc"])
        assert 0 < results["results"]["muse_auc"]["auc,none"] < 1
    else:
        with pytest.raises(RequestError, match=message):
            evaluate(lm, corpus_folder, ["muse_auc"], limit=2)


def test_a_tokenizer_with_eos_is_left_alone(byte_level: Any) -> None:
    tokenizer, model = byte_level
    lm = MuseHFLM(pretrained=model, tokenizer=copy.deepcopy(tokenizer))
    assert lm.tokenizer.pad_token_id == tokenizer.eos_token_id
    text = tokenizer.decode(torch.tensor([5, 6, 7]))
    assert lm.tok_decode([5, 6, 7]) == text
    assert lm.tok_decode(lm.eot_token_id, skip_special_tokens=False) == "</s>"
    assert lm.tok_encode("Mila") == tokenizer.encode("Mila")


def test_padding_stays_where_the_model_has_it(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    own = without_eos(tokenizer, bos=True)
    own.pad_token = tokenizer.decode([7])
    lm = MuseHFLM(pretrained=model, tokenizer=own)
    assert lm.tokenizer.pad_token_id == 7
