"""unlearn, quantize, evaluate, survival: from and to model folders, through the command line."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner, Result

from leaderboard.cli import app


def call(*arguments: object) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, (result.output, result.exception)
    return result


@pytest.fixture(scope="module")
def unlearned(small_world: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("out") / "unlearned"
    call(
        *("unlearn", "--method", "npo_klr", "--finetuning", "lora"),
        *("--model", small_world.target, "--corpus", small_world.corpus, "--out", folder),
        *("--lora", "rank=4", "--param", "beta=0.2"),
        *("--training", "window=64", "--training", "max_steps=3"),
        *("--training", "learning_rate=0.001"),
    )
    return folder


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.arange(2, 40)[None]).logits


def test_unlearn_makes_a_model_folder(unlearned: Path, small_world: Any) -> None:
    model = AutoModelForCausalLM.from_pretrained(unlearned)
    assert AutoTokenizer.from_pretrained(unlearned)("Mila")["input_ids"]
    target = AutoModelForCausalLM.from_pretrained(small_world.target)
    assert not logits(model).equal(logits(target))
    assert (unlearned / "training" / "adapter" / "adapter_model.safetensors").is_file()
    assert len((unlearned / "training" / "loss.jsonl").read_text().splitlines()) == 3
    assert (unlearned / "training" / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert not list(unlearned.parent.glob("*.training"))
    assert not list(unlearned.rglob("checkpoint-*"))


def test_model_card_states_what_was_done(unlearned: Path) -> None:
    card = (unlearned / "README.md").read_text()
    _, header, body = card.split("---\n", 2)
    assert "machine-unlearning" in yaml.safe_load(header)["tags"]
    assert "| method: beta | 0.2 |" in body
    assert "| finetuning: rank | 4 |" in body
    assert "| training: learning_rate | 0.001 |" in body
    assert "sha256:" in body


def test_quantize_then_evaluate(unlearned: Path, small_world: Any, tmp_path: Path) -> None:
    """A simulated grid is an ordinary folder; one of integers is loaded by ours."""
    simulated, integers = tmp_path / "simulated", tmp_path / "integers"
    for name, folder in (("rtn-int4", simulated), ("quanto-int8", integers)):
        call("quantize", "--quantizer", name, "--model", unlearned, "--out", folder)
        assert json.loads((folder / "quantizer.json").read_text())["quantizer"] == name
    AutoModelForCausalLM.from_pretrained(simulated)
    outputs = [
        call("evaluate", "--model", folder, "--corpus", small_world.corpus, "--limit", 6).stdout
        for folder in (simulated, integers)
    ]
    assert all("privleak" in output for output in outputs)


def test_survival(unlearned: Path, small_world: Any, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    output = call(
        *("survival", "--target", small_world.target, "--unlearned", unlearned),
        *("--quantizer", "rtn-int8", "--quantizer", "rtn-int4:group_size=tensor"),
        *("--quantizer", "bnb-fp4", "--json", report),
    ).output
    assert "q_proj" in output
    rounding = json.loads(report.read_text())["total"]["rounding"]
    assert list(rounding) == ["bnb-fp4", "rtn-int4:group_size=tensor", "rtn-int8"]
    changed = {name: part.get("changed_indices") for name, part in rounding.items()}
    assert changed["bnb-fp4"] is None
    assert 0 < changed["rtn-int4:group_size=tensor"] < changed["rtn-int8"] <= 1
    assert rounding["rtn-int8"]["noise"] < rounding["bnb-fp4"]["noise"]
    content = json.loads(report.read_text())
    assert len(content["layers"]) == 14  # seven projections in two blocks
