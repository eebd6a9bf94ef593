"""Refusal of incomplete checkpoints, adapters and missing tokenizers."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lm_eval
import pytest
import torch
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    BertLMHeadModel,
    GenerationConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
)

from harness_tasks.autoload import TASKS
from harness_tasks.compat import make_request
from harness_tasks.errors import RequestError
from harness_tasks.lm import MuseHFLM
from harness_tasks.loading import (
    CompleteLoader,
    load_tokenizer,
    one_line,
    refuse_rounded,
    repair_generation_config,
)
from quantizers import QuantizerError, get_quantizer
from quantizers.errors import ModelError
from quantizers.saving import load_quantized, save_quantized
from unlearners import UnlearnerError

DOWN = "model.layers.1.mlp.down_proj.weight"
IDS = torch.arange(3, 40)[None]


def small_llama(*, tied: bool = False) -> LlamaForCausalLM:
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    return LlamaForCausalLM(
        LlamaConfig(vocab_size=64, num_attention_heads=4, tie_word_embeddings=tied, **sizes)
    ).eval()


def change_tensors(
    folder: Path, change: Callable[[dict[str, Any]], Any], name: str = "model.safetensors"
) -> None:
    tensors = load_file(folder / name)
    change(tensors)
    save_file(tensors, folder / name, metadata={"format": "pt"})


def load(folder: Path) -> PreTrainedModel:
    return CompleteLoader(AutoModelForCausalLM).from_pretrained(str(folder))


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


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(IDS).logits


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda t: t.pop(DOWN), f"1 tensor missing: {DOWN}."),
        (lambda t: t.update({"more.weight": torch.ones(2)}), "1 tensor unexpected: more.weight."),
        (
            lambda t: t.update({"model.norm.weight": torch.ones(7)}),
            "1 tensor of another shape: model.norm.weight (checkpoint (7,), model (32,)).",
        ),
        (
            lambda t: [
                t.pop(name) for name in sorted(t) if "layers.0.mlp" in name or "q_pr" in name
            ],
            "5 tensors missing: model.layers.0.mlp.down_proj.weight, "
            "model.layers.0.mlp.gate_proj.weight, model.layers.0.mlp.up_proj.weight, ….",
        ),
        (lambda t: t.pop("lm_head.weight"), "1 tensor missing: lm_head.weight."),
    ],
)
def test_incomplete_checkpoint(
    tmp_path: Path, change: Callable[[dict[str, Any]], Any], named: str
) -> None:
    """Layer 0 has three tensors in its MLP, and two layers have a q_proj: five in all."""
    small_llama().save_pretrained(tmp_path)
    load(tmp_path)
    change_tensors(tmp_path, change)
    with pytest.raises(ModelError) as caught:
        load(tmp_path)
    message = str(caught.value)
    assert message.startswith("the checkpoint does not fit LlamaForCausalLM: ")
    assert named in message
    assert "\n" not in message


@pytest.mark.parametrize("bare", [False, True])
def test_tied_head_is_not_missing(tmp_path: Path, bare: bool) -> None:
    """Saved completely, and as the base model without the prefix ``model.``."""
    model = small_llama(tied=True)
    (model.model if bare else model).save_pretrained(tmp_path)
    names = load_file(tmp_path / "model.safetensors").keys()
    assert "lm_head.weight" not in names
    assert any(name.startswith("model.") for name in names) is not bare
    assert logits(load(tmp_path)).equal(logits(model))


def test_bare_base_model_without_its_head(tmp_path: Path) -> None:
    small_llama().model.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"1 tensor missing: lm_head\.weight"):
        load(tmp_path)


def test_masks_and_positions_of_old_checkpoints(tmp_path: Path) -> None:
    llama, gpt2 = tmp_path / "llama", tmp_path / "gpt2"
    model = small_llama()
    model.save_pretrained(llama)
    inv_freq = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}
    change_tensors(llama, lambda t: t.update(inv_freq))
    assert logits(load(llama)).equal(logits(model))
    GPT2LMHeadModel(GPT2Config(vocab_size=64, n_embd=32, n_layer=1, n_head=2)).save_pretrained(gpt2)
    masks = {"attn.bias": torch.ones(1, 1, 8, 8), "attn.masked_bias": torch.ones(1)}
    change_tensors(gpt2, lambda t: t.update({f"transformer.h.0.{k}": v for k, v in masks.items()}))
    load(gpt2)


def test_adapter_in_a_model_folder(tmp_path: Path) -> None:
    """The loader reports on the adapter alone, so that the model may lack anything."""
    model = small_llama()
    get_peft_model(copy.deepcopy(model), LoraConfig(target_modules=["q_proj"])).save_pretrained(
        tmp_path
    )
    model.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"it has adapter_config\.json: merge the adapter"):
        load(tmp_path)


@pytest.mark.parametrize("tensor", [DOWN, "model.norm.weight"])
@pytest.mark.parametrize("name", ["none", "bf16", "rtn-int4", "bnb-nf4", "quanto-int8"])
def test_incomplete_quantized_folder(tmp_path: Path, name: str, tensor: str) -> None:
    """The error is from transformers' report or from the loader of the format.

    A quanto weight is removed with its scales, and bitsandbytes cannot build a missing weight.
    """
    quantizer = get_quantizer(name)
    quantized = quantizer(small_llama())
    save_quantized(quantized, tmp_path, quantizer)
    assert logits(load_quantized(tmp_path)).equal(logits(quantized))
    file = next(tmp_path.glob("*.safetensors")).name
    stem = tensor.removesuffix(".weight")
    change_tensors(tmp_path, lambda t: [t.pop(k) for k in list(t) if k.startswith(stem)], file)
    with pytest.raises((ModelError, QuantizerError), match="missing"):
        load_quantized(tmp_path)


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


def test_one_line() -> None:
    error = ValueError("Not from one of: \n(1) this, \n(2) that.\n\nRead the manual.")
    assert one_line(error) == "Not from one of: (1) this, (2) that."
    assert one_line(KeyError()) == "KeyError"
    assert one_line(ValueError("x" * 501)) == "x" * 499 + "…"
    assert one_line(ValueError("x" * 500)) == "x" * 500


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
