"""load_model's refusals as one line, and models that cannot be trained or saved as they are."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner, Result

from leaderboard.cli import app
from leaderboard.errors import InputError
from leaderboard.models.folders import load_model, try_saving
from quantizers import get_quantizer
from quantizers.saving import save_quantized
from unlearners import UnlearnerError
from unlearners.engine.run import _is_quantized

DOWN = "model.layers.1.mlp.down_proj.weight"


@pytest.fixture
def model(small_world: Any, tmp_path: Path) -> Path:
    """A copy of the target."""
    return shutil.copytree(small_world.target, tmp_path / "model")


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def refusal(folder: Path) -> str:
    with pytest.raises(InputError) as caught:
        load_model(str(folder))
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_missing_tensor(model: Path) -> None:
    tensors = load_file(model / "model.safetensors")
    del tensors[DOWN]
    save_file(tensors, model / "model.safetensors", metadata={"format": "pt"})
    start = f"no model can be loaded from {model}: the checkpoint does not fit LlamaForCausalLM: "
    assert refusal(model).startswith(f"{start}1 tensor missing: {DOWN}")


def test_no_tokenizer(model: Path) -> None:
    for path in model.glob("tokenizer*"):
        path.unlink()
    assert "has no tokenizer: give `tokenizer:`" in refusal(model)


def test_adapter_folder(small_world: Any, tmp_path: Path) -> None:
    base = AutoModelForCausalLM.from_pretrained(small_world.target)
    get_peft_model(base, LoraConfig(target_modules=["q_proj"])).save_pretrained(tmp_path)
    assert f"{tmp_path} is an adapter, not a model" in refusal(tmp_path)


def test_remote_code_is_refused_without_a_question(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the model and of its tokenizer; nothing is read from the terminal."""
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("a question"))
    config = json.loads((model / "config.json").read_text())
    config |= {"model_type": "strange", "auto_map": {"AutoConfig": "strange.C"}}
    (model / "config.json").write_text(json.dumps(config))
    (model / "strange.py").write_text("raise SystemExit")
    assert "contains custom code" in refusal(model)
    quantizer = get_quantizer("quanto-int4")
    record = {"quantizer": "quanto-int4", "parameters": quantizer.to_dict()}
    (model / "quantizer.json").write_text(json.dumps(record))
    (model / "model.safetensors").rename(model / "quantized.safetensors")
    assert "contains custom code" in refusal(model)


def write_quantized(name: str, source: Path, folder: Path) -> Path:
    quantizer = get_quantizer(name)
    model, tokenizer = load_model(str(source), device="cpu")
    save_quantized(quantizer(model), folder, quantizer)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", ["quanto-int4", "bnb-nf4", "rtn-int4"])
@pytest.mark.parametrize("finetuning", ["full", "lora"])
def test_quantized_folder_is_not_unlearned(
    small_world: Any, tmp_path: Path, name: str, finetuning: str
) -> None:
    source = write_quantized(name, small_world.target, tmp_path / "quantized")
    result = call(
        *("unlearn", "--method", "npo_gdr", "--finetuning", finetuning, "--model", source),
        *("--corpus", small_world.corpus, "--out", tmp_path / "out"),
        *("--training", "window=64", "--training", "max_steps=1"),
    )
    assert isinstance(result.exception, UnlearnerError)
    assert f"{source} is quantized to 4 bits" in str(result.exception)
    assert not list(tmp_path.glob("out*/*"))


@pytest.mark.parametrize("name", ["quanto-int4", "quanto-float8", "bnb-nf4"])
def test_weights_that_are_quantized_tensors(small_world: Any, name: str) -> None:
    """Found by the tensors alone, without ``quantizer.json`` or ``is_quantized``."""
    model, _ = load_model(str(small_world.target), device="cpu")
    assert not _is_quantized(model)
    assert not _is_quantized(model.to(torch.bfloat16))
    quantized = get_quantizer(name)(model.float())
    quantized.is_quantized = False
    assert _is_quantized(quantized)


@pytest.fixture
def sampling(model: Path) -> Path:
    """Llama 2's published configuration of generation has such values and no ``do_sample``."""
    path = model / "generation_config.json"
    path.write_text(json.dumps({"temperature": 0.9, "top_p": 0.6}))
    return model


def test_sampling_values_are_saved(sampling: Path, small_world: Any, tmp_path: Path) -> None:
    """After unlearning, and after quantizing to a folder of transformers and to one of ours."""
    training = ("--training", "window=64", "--training", "max_steps=1")
    place = ("--model", sampling, "--out")
    corpus = ("--corpus", small_world.corpus)
    commands = {
        "unlearned": ("unlearn", "--method", "npo_gdr", *corpus, *training),
        "simulated": ("quantize", "--quantizer", "rtn-int4"),
        "integers": ("quantize", "--quantizer", "quanto-int8"),
    }
    for name, command in commands.items():
        result = call(*command, *place, tmp_path / name)
        assert result.exit_code == 0, (result.output, result.exception)
        kept = json.loads((tmp_path / name / "generation_config.json").read_text())
        assert (kept["do_sample"], kept["temperature"], kept["top_p"]) == (True, 0.9, 0.6)


def test_evaluation_leaves_the_configuration_alone(sampling: Path, tmp_path: Path) -> None:
    """Only what is to be saved is repaired; the trial leaves nothing behind."""
    model, tokenizer = load_model(str(sampling))
    assert model.generation_config.do_sample is None
    try_saving(model, tokenizer, tmp_path / "new" / "out")
    assert model.generation_config.do_sample is True
    assert list((tmp_path / "new").iterdir()) == []


@pytest.mark.parametrize("command", ["unlearn", "quantize"])
def test_error_comes_before_the_work(
    model: Path, small_world: Any, tmp_path: Path, command: str
) -> None:
    """A beam's flag without beams cannot be repaired."""
    (model / "generation_config.json").write_text(json.dumps({"early_stopping": True}))
    options = {
        "unlearn": ("--method", "npo_gdr", "--corpus", small_world.corpus),
        "quantize": ("--quantizer", "rtn-int4"),
    }
    result = call(command, *options[command], "--model", model, "--out", tmp_path / "out")
    assert isinstance(result.exception, InputError)
    assert "cannot be saved again" in str(result.exception)
    assert not list(tmp_path.glob("out*/*"))
