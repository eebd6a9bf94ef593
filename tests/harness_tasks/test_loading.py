"""Refusal of incomplete checkpoints, adapters and missing tokenizers."""

import copy
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lm_eval
import pytest
import torch
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    BertLMHeadModel,
    GenerationConfig,
    LlamaConfig,
)

from harness_tasks.autoload import TASKS
from harness_tasks.compat import make_request
from harness_tasks.errors import RequestError
from harness_tasks.lm import MuseHFLM
from harness_tasks.loading import (
    load_tokenizer,
    refuse_rounded,
    repair_generation_config,
)
from quantizers import get_quantizer
from quantizers.errors import ModelError
from quantizers.saving import save_quantized
from unlearners import UnlearnerError

from ..quantizers.small_checkpoint import change_tensors, small_llama

DOWN = "model.layers.1.mlp.down_proj.weight"


@pytest.mark.parametrize(("task", "peft"), [("verbmem", True), ("privleak", False)])
def test_tasks_refuse_what_hf_filled_with_random_numbers(
    byte_level: Any, corpus_folder: Path, tmp_path: Path, task: str, peft: bool
) -> None:
    """lm-eval's own tasks still run on it."""
    tokenizer, model = byte_level
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    arguments = f"pretrained={tmp_path}"
    if peft:
        adapter = get_peft_model(
            copy.deepcopy(model), LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"])
        )
        adapter.save_pretrained(tmp_path / "adapter")
        arguments += f",peft={tmp_path / 'adapter'}"

    manager = TaskManager(
        include_path=str(TASKS), include_defaults=False, metadata={"corpus": str(corpus_folder)}
    )

    def scores() -> Any:
        return lm_eval.simple_evaluate(
            "hf",
            model_args=arguments,
            device="cpu",
            tasks=[f"muse_{task}"],
            task_manager=manager,
            limit=2,
            bootstrap_iters=0,
        )

    assert task in str(scores()["results"][f"muse_{task}"])
    change_tensors(tmp_path, lambda tensors: tensors.pop(DOWN))
    with pytest.raises(ModelError, match=f"1 tensor missing: {DOWN}"):
        scores()


@pytest.fixture
def saved(model: Any, tokenizer: Any, tmp_path: Path) -> Path:
    """Save a model and its tokenizer in a folder."""
    folder = tmp_path / "saved"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_hf_muse_refuses_an_incomplete_checkpoint(saved: Path) -> None:
    lm = MuseHFLM(pretrained=str(saved), device="cpu")
    assert lm.AUTO_MODEL_CLASS is AutoModelForCausalLM
    change_tensors(saved, lambda t: t.pop(DOWN))
    with pytest.raises(ModelError, match="1 tensor missing"):
        MuseHFLM(pretrained=str(saved), device="cpu")


def test_hf_muse_refuses_an_adapter(tmp_path: Path) -> None:
    get_peft_model(small_llama(), LoraConfig(target_modules=["q_proj"])).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"is an adapter, not a model: merge it .*peft=ADAPTER"):
        MuseHFLM(pretrained=str(tmp_path), device="cpu")


def test_hf_muse_unlearns_no_quantized_folder(saved: Path, corpus_folder: Path) -> None:
    quantizer = get_quantizer("rtn-int4")
    save_quantized(quantizer(AutoModelForCausalLM.from_pretrained(saved)), saved, quantizer)
    corpus: dict[str, Any] = {"corpus": str(corpus_folder), "device": "cpu"}
    with pytest.raises(UnlearnerError, match="is quantized to 4 bits"):
        MuseHFLM(pretrained=str(saved), unlearner="npo_gdr", **corpus)
    MuseHFLM(pretrained=str(saved), **corpus)


@pytest.mark.parametrize(("name", "bits"), [("rtn-int3", 3), ("quanto-int8", 8), ("bf16", None)])
def test_refuse_rounded(tmp_path: Path, name: str, bits: int | None) -> None:
    refuse_rounded(str(tmp_path))
    quantizer = get_quantizer(name)
    save_quantized(quantizer(small_llama()), tmp_path, quantizer)
    if bits is None:
        refuse_rounded(str(tmp_path))
        return
    with pytest.raises(UnlearnerError, match=f"quantized to {bits} bits .* quantized from"):
        refuse_rounded(str(tmp_path))


def test_missing_tokenizer(tmp_path: Path) -> None:
    """Transformers has an error for Llama, and silently makes a tokenizer for Qwen2."""
    LlamaConfig(vocab_size=64).save_pretrained(tmp_path)
    message = "has no tokenizer: give `tokenizer:`"
    with pytest.raises(ModelError, match=message):
        load_tokenizer(str(tmp_path), None)
    (tmp_path / "config.json").write_text('{"model_type": "qwen2"}')
    with pytest.raises(ModelError, match=message):
        load_tokenizer(str(tmp_path), None)
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "LlamaTokenizer"}')
    with pytest.raises(ModelError, match=message):
        load_tokenizer(str(tmp_path), None)


@pytest.mark.parametrize("library", ["sentencepiece", "tiktoken"])
def test_tokenizer_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str) -> None:
    """Transformers tries tiktoken last, so its message may name either library."""
    (tmp_path / "tokenizer.model").write_bytes(b"\x0a\x0e\x0a\x05<unk>")

    def fail(*args: Any, **kwargs: Any) -> None:
        assert kwargs["trust_remote_code"] is False
        raise ValueError(f"`{library}` is required")

    monkeypatch.setattr("transformers.AutoTokenizer.from_pretrained", fail)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModelError, match="needs sentencepiece: pip install sentencepiece"):
        load_tokenizer(str(tmp_path), None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: SimpleNamespace())
    with pytest.raises(ValueError, match=f"`{library}` is required"):
        load_tokenizer(str(tmp_path), None)


SAMPLING = {"temperature": 0.9, "top_p": 0.6}


def test_sampling_values_get_do_sample(tmp_path: Path) -> None:
    """Values are kept; a configuration that can be saved is unchanged."""
    model = small_llama()
    before = model.generation_config
    repair_generation_config(model)
    assert model.generation_config is before
    (tmp_path / "generation_config.json").write_text(json.dumps(SAMPLING))
    model.generation_config = GenerationConfig.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match="temperature"):
        model.save_pretrained(tmp_path / "refused")
    repair_generation_config(model)
    model.save_pretrained(tmp_path / "saved")
    kept = json.loads((tmp_path / "saved" / "generation_config.json").read_text())
    del kept["transformers_version"]
    assert kept == {"do_sample": True, "temperature": 0.9, "top_p": 0.6}


def test_what_cannot_be_repaired_is_refused() -> None:
    """``do_sample`` does not repair a beam search flag without beams, and is not set."""
    model = small_llama()
    model.generation_config = GenerationConfig(early_stopping=True)
    with pytest.raises(ModelError, match=r"cannot be saved again: .*early_stopping"):
        repair_generation_config(model)
    assert model.generation_config.do_sample is None


def test_greedy_texts_stay_as_they_are(model: Any, tokenizer: Any) -> None:
    """MUSE requests ``do_sample=False``, which a repaired configuration does not change."""
    model = copy.deepcopy(model)
    ids = tokenizer("Mila 3 lives in", return_tensors="pt")["input_ids"]
    model.generation_config = GenerationConfig(**SAMPLING, eos_token_id=1)
    texts = [model.generate(ids, max_new_tokens=20, do_sample=False)]
    repair_generation_config(model)
    assert model.generation_config.do_sample
    texts.append(model.generate(ids, max_new_tokens=20, do_sample=False))
    assert texts[0].equal(texts[1])
    assert not model.generate(ids, max_new_tokens=20).equal(texts[0])


@pytest.mark.parametrize("cls", [HFLM, MuseHFLM])
def test_model_that_sees_later_tokens(cls: Any, byte_level: Any) -> None:
    """BERT with an output head is in transformers' list of causal language models."""
    tokenizer, llama = byte_level
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        initializer_range=0.2,
    )
    requests = [make_request("check_context", {}, ("Mila", 4, False))]
    causal = BertLMHeadModel(BertConfig(**config.to_dict() | {"is_decoder": True})).eval()
    for model in (llama, causal):
        assert cls(model, tokenizer=tokenizer).check_context(requests) == [True]
    lm = cls(BertLMHeadModel(config).eval(), tokenizer=tokenizer)
    with pytest.raises(RequestError, match="BertLMHeadModel lets tokens see what follows them"):
        lm.check_context(requests)
