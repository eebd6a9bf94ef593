"""Transforms of a model: unlearning on a corpus, and adapters merged in float32."""

import dataclasses
import json
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from harness_tasks.corpora import load_corpus
from harness_tasks.errors import CorpusError
from harness_tasks.transforms import Unlearning, merge_adapter
from unlearners import FullFinetuning, Unlearner
from unlearners.training import TrainingSettings

QUERY = "model.layers.0.self_attn.q_proj"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Returning(Unlearner):
    """Unlearner that returns the arguments of its call instead of a model."""

    needs: ClassVar[frozenset[str]] = frozenset()  # type: ignore[misc, assignment]

    def __call__(self, model: Any, tokenizer: Any, data: Any, **kwargs: Any) -> Any:
        assert kwargs["output_dir"].is_dir()
        return (model, tokenizer, data, kwargs)


class Retaining(Returning):
    """Unlearner that needs the retain set."""

    needs: ClassVar[frozenset[str]] = frozenset({"retain"})  # type: ignore[misc, assignment]


def unlearning(folder: Path, unlearner: Unlearner, output_dir: str | None = None) -> Unlearning:
    return Unlearning(
        name="mine",
        unlearner=unlearner,
        finetuning=FullFinetuning(),
        training=TrainingSettings(epochs=3),
        corpus=load_corpus(str(folder)),
        forget="raw/forget",
        retain="raw/retain1",
        output_dir=output_dir,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A corpus with forget text only."""
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "forget.json").write_text(json.dumps(["one", "two"]))
    return tmp_path


def test_text_is_read_as_far_as_the_method_needs_it(folder: Path) -> None:
    """The temporary folder is gone after the call."""
    model, tokenizer, data, arguments = unlearning(folder, Returning())("model", "tokenizer")  # type: ignore[arg-type, misc]
    assert (model, tokenizer) == ("model", "tokenizer")
    assert (data.forget, data.retain) == (["one", "two"], ())
    assert arguments["training"] == TrainingSettings(epochs=3)
    assert not arguments["output_dir"].exists()
    needy = unlearning(folder, Retaining(), str(folder))
    with pytest.raises(CorpusError, match=r"raw/retain1\.json: no such file"):
        needy("model", "tokenizer")  # type: ignore[arg-type]
    (folder / "raw" / "retain1.json").write_text(json.dumps(["three"]))
    _, _, data, arguments = needy("model", "tokenizer")  # type: ignore[arg-type, misc]
    assert data.retain == ["three"]
    assert arguments["output_dir"] == folder and folder.is_dir()


def test_settings_as_json(folder: Path) -> None:
    settings = json.loads(json.dumps(unlearning(folder, Returning()).to_dict()))
    assert settings["unlearner"]["name"] == "mine"
    assert settings["training"]["epochs"] == 3
    assert (settings["forget"], settings["retain"]) == ("raw/forget", "raw/retain1")
    assert settings["corpus"] == load_corpus(str(folder)).provenance


@pytest.mark.parametrize("loaded", [False, True])
def test_adapter_is_merged_in_float32_and_rounded_once(loaded: bool, tmp_path: Path) -> None:
    """Scaling 4 / 2: the weight is W + 2 B A; B and A are in bfloat16 if loaded before."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=20, num_attention_heads=2, **sizes))
    for parameter in model.parameters():  # as loaded: buffers stay in float32
        parameter.data = parameter.data.bfloat16()
    before = model.get_submodule(QUERY).weight.detach().clone()
    key = model.get_submodule(QUERY.replace("q_proj", "k_proj")).weight.detach().clone()
    config = LoraConfig(
        r=2, lora_alpha=4, target_modules=["q_proj"], init_lora_weights=False, task_type="CAUSAL_LM"
    )
    adapted = get_peft_model(model, config)
    layer = adapted.base_model.model.get_submodule(QUERY)
    if loaded:
        adapted.base_model.model.to(torch.bfloat16)
    factors = [part["default"].weight.float() for part in (layer.lora_B, layer.lora_A)]
    update = 2 * factors[0] @ factors[1]
    if not loaded:
        adapted.save_pretrained(tmp_path)
    merged = merge_adapter(adapted if loaded else adapted.unload(), str(tmp_path))
    after = merged.get_submodule(QUERY).weight
    assert type(merged) is LlamaForCausalLM
    assert {parameter.dtype for parameter in merged.parameters()} == {torch.bfloat16}
    assert torch.equal(after, (before.float() + update).bfloat16())
    assert not torch.equal(after, before + update.bfloat16())
    assert torch.equal(merged.get_submodule(QUERY.replace("q_proj", "k_proj")).weight, key)
    buffers = torch.bfloat16 if loaded else torch.float32
    assert merged.model.rotary_emb.inv_freq.dtype == buffers
