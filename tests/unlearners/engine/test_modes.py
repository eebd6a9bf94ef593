"""Dropout of the base model: off in training, as in the reference, and restored afterwards."""

import copy
import json
import math

import pytest
import torch
from torch import nn

from unlearners.engine.modes import dropout_off, evaluation_mode, jittered_modules
from unlearners.finetuning import FullFinetuning, LoRA

from ..tiny_models import (
    architecture,
    settings,
    tiny_gpt2,
    tiny_llama,
)

IDS = torch.arange(40, 88).reshape(2, 24)
# Rates as modules keep them: numbers or nn.Dropout, read from a module or from the configuration,
# also of whole layers, and noise of routers.
RATES = {
    "bert": {"hidden_dropout_prob": 0.5, "attention_probs_dropout_prob": 0.5},
    "bloom": {"hidden_dropout": 0.5, "attention_dropout": 0.5},
    "dbrx": {"resid_pdrop": 0.5},
    "falcon": {"hidden_dropout": 0.5, "attention_dropout": 0.5},
    "gpt2": {"resid_pdrop": 0.5, "embd_pdrop": 0.5, "attn_pdrop": 0.5},
    "gptj": {"resid_pdrop": 0.5, "embd_pdrop": 0.5, "attn_pdrop": 0.5},
    "llama": {"attention_dropout": 0.5},
    "minimax": {"router_jitter_noise": 0.5},
    "opt": {"dropout": 0.5, "attention_dropout": 0.5, "layerdrop": 0.5},
    "persimmon": {"hidden_dropout": 0.5, "attention_dropout": 0.5},
    "phimoe": {"router_jitter_noise": 0.5, "input_jitter_noise": 0.5},
    "xglm": {"dropout": 0.5, "attention_dropout": 0.5, "activation_dropout": 0.5},
}


def rates(model: nn.Module) -> dict[str, object]:
    return {
        f"{name}.{key}": copy.copy(value)
        for name, module in model.named_modules()
        for key, value in vars(module).items()
        if "drop" in key or key == "p"
    }


@pytest.mark.parametrize("model_type", RATES)
def test_training_mode_computes_what_evaluation_mode_does(model_type) -> None:
    model = architecture(model_type, **RATES[model_type])
    config, before = model.config.to_dict(), rates(model)
    with torch.no_grad():
        expected = model(input_ids=IDS).logits
        model.train()
        assert not torch.equal(model(input_ids=IDS).logits, expected)
        with dropout_off(model):
            for module in jittered_modules(model):
                module.training = False
            for _ in range(3):
                assert torch.equal(model(input_ids=IDS).logits, expected)
    assert model.config.to_dict() == config and rates(model) == before


def test_a_rate_that_its_configuration_wants_as_an_int() -> None:
    model = architecture("mpt")
    model.config.attn_config.attn_pdrop = 1
    with dropout_off(model):
        assert model.config.attn_config.attn_pdrop == 0
    assert model.config.attn_config.attn_pdrop == 1


def test_dropout_of_an_adapter_stays_on() -> None:
    model = LoRA(dropout=0.5).prepare(tiny_llama(attention_dropout=0.5), torch.float32, None)
    before = rates(model)
    with dropout_off(model):
        adapters = {name: p for name, p in rates(model).items() if "lora_dropout" in name}
        assert {name: before[name] for name in adapters} == adapters
        assert [p for name, p in adapters.items() if name.endswith(".p")] == [0.5] * 14


@pytest.mark.parametrize(
    ("model_type", "finetuning", "training"),
    [
        ("gpt2", FullFinetuning(), {}),
        ("gpt2", FullFinetuning(), {"gradient_checkpointing": True}),
        ("opt", LoRA(rank=2), {}),
        ("phimoe", FullFinetuning(), {}),
    ],
)
def test_first_losses_are_those_of_the_reference(
    model_type, finetuning, training, run, tmp_path
) -> None:
    """NPO of a ratio of 1: -(2 / beta) log sigmoid(0) = (2 / 0.1) log 2. The KL is 0."""
    model = architecture(model_type, **RATES[model_type])
    config, modes = model.config.to_dict(), rates(model)
    unlearned = run("npo_klr", model, finetuning, output_dir=tmp_path, max_steps=1, **training)
    (first,) = map(json.loads, (tmp_path / "loss.jsonl").read_text().splitlines())
    assert first["forget"] == pytest.approx(20 * math.log(2), rel=1e-6)
    assert first["retain"] == pytest.approx(0, abs=1e-6)
    assert unlearned.config.to_dict() == config and rates(unlearned) == modes


@pytest.mark.parametrize("finetuning", [FullFinetuning(), LoRA(rank=2)], ids=lambda f: f.name)
def test_it_can_be_left_on(finetuning, run, tmp_path) -> None:
    assert settings().to_dict()["disable_dropout"] is True
    run("npo_klr", tiny_gpt2(), finetuning, output_dir=tmp_path, disable_dropout=False, max_steps=1)
    (first,) = map(json.loads, (tmp_path / "loss.jsonl").read_text().splitlines())
    assert abs(first["forget"] - 20 * math.log(2)) > 1e-3
    assert first["retain"] > 1e-4


def test_every_module_gets_its_own_mode_back() -> None:
    model = tiny_gpt2().train()
    model.transformer.h[0].eval()
    before = [module.training for module in model.modules()]
    with evaluation_mode(model):
        assert not any(module.training for module in model.modules())
    assert [module.training for module in model.modules()] == before
