"""Models of other kinds than Llama: what is trained in them, and what is left alone."""

import copy
import json
import math

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from quantizers.architecture import context_length
from unlearners import UnlearnerError
from unlearners.facts import read_training_facts
from unlearners.finetuning import FullFinetuning, LoRA
from unlearners.finetuning.adapter import (
    MAMBA,
    PAST_THE_ADAPTER,
    find_targets,
    merge_adapter,
)

from .tiny_models import architecture, tiny_gpt2, tiny_llama

IDS = torch.arange(40, 88).reshape(2, 24)


def unchanged(original: torch.Tensor, trained: torch.Tensor) -> torch.Tensor:
    return trained


def language(name: str) -> bool:
    """True for a weight of Gemma 3's or Qwen 2 VL's language model."""
    return "language_model" in name or name.startswith("lm_head")


# -- multimodal -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model_type", "method", "finetuning", "training"),
    [
        ("gemma3", "npo_klr", FullFinetuning(), {}),
        ("gemma3", "task_vector", FullFinetuning(), {"disable_dropout": False}),
        ("gemma3", "npo_klr", LoRA(rank=2), {"gradient_checkpointing": True}),
        ("qwen2_vl", "sure", FullFinetuning(), {"gradient_checkpointing": True}),
    ],
)
def test_only_the_language_model_is_trained(
    model_type, method, finetuning, training, run, tmp_path
) -> None:
    model = architecture(model_type, torch.bfloat16)
    before, config = copy.deepcopy(model.state_dict()), model.config.to_dict()
    unlearned = run(
        method, model, finetuning, output_dir=tmp_path, learning_rate=1e-2, max_steps=2, **training
    )
    after = unlearned.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and all(map(language, changed))
    assert {name: t.dtype for name, t in after.items()} == {n: t.dtype for n, t in before.items()}
    assert all(parameter.requires_grad for parameter in unlearned.parameters())
    assert unlearned.config.to_dict() == config
    if method == "npo_klr":
        first = json.loads((tmp_path / "loss.jsonl").read_text().splitlines()[0])
        assert first["forget"] == pytest.approx(20 * math.log(2), rel=1e-6)
        assert first["retain"] == pytest.approx(0, abs=1e-6)


def test_facts_of_a_multimodal_model(run, tmp_path) -> None:
    model = architecture("gemma3")
    sizes = {name: p.numel() for name, p in model.named_parameters()}
    run("ga", model, output_dir=tmp_path, max_steps=1)
    facts = read_training_facts(tmp_path)
    assert facts is not None
    expected = sum(size for name, size in sizes.items() if language(name))
    assert facts.adapted_parameters == facts.trained_parameters == expected
    assert facts.parameters == sum(sizes.values()) > expected


def test_modules_of_the_same_name_in_another_part_get_no_adapter() -> None:
    """PEFT compares the ends of names: those of the language model end those of the tower."""
    model = architecture("gemma3")
    tower = nn.ModuleDict({"layers": copy.deepcopy(model.model.language_model.layers)})
    for name in ("language_model", "model"):
        tower = nn.ModuleDict({name: tower})
    model.tower = tower
    adapted = LoRA(rank=2).prepare(model, torch.float32, None)
    names = [name for name, _ in adapted.named_parameters() if "lora_A" in name]
    assert names and not any("tower" in name for name in names)


# -- linear layers --------------------------------------------------------------------------------


def test_sub_classes_that_are_no_projections_are_left_out() -> None:
    """Llama 4's router is an nn.Linear that returns two tensors; Falcon's layers just differ."""
    model = architecture("llama4_text")
    assert not any("router" in name for name in find_targets(model, "all-linear").modules)
    with pytest.raises(UnlearnerError, match="is a Llama4Router, not a linear projection"):
        LoRA(targets=["router"]).prepare(model, torch.float32, None)
    falcon = find_targets(architecture("falcon"), "all-linear").modules
    assert {name.rpartition(".")[2] for name in falcon} == {
        "query_key_value",
        "dense",
        "dense_h_to_4h",
        "dense_4h_to_h",
    }


@pytest.mark.parametrize("model_type", sorted(MAMBA))
def test_what_peft_refuses_in_mamba_is_left_out_and_nothing_else(model_type) -> None:
    model = architecture(model_type)
    linear = {
        name.rpartition(".")[2]
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module is not model.get_output_embeddings()
    }
    refused = set()
    for name in linear:
        try:
            get_peft_model(copy.deepcopy(model), LoraConfig(target_modules=[name]))
        except ValueError:
            refused.add(name)
    assert refused == linear & PAST_THE_ADAPTER == {"out_proj"}
    found = find_targets(model, "all-linear").modules
    assert {name.rpartition(".")[2] for name in found} == linear - refused


def test_an_adapter_that_the_model_reads_past_is_not_counted(run, tmp_path) -> None:
    """Mamba multiplies by the weight of dt_proj itself. Two layers have in_proj and x_proj."""
    model = architecture("mamba")
    sizes = {n: p.numel() for n, p in model.named_parameters() if n.endswith("_proj.weight")}
    run("ga", model, LoRA(rank=2), output_dir=tmp_path, max_steps=1)
    facts = read_training_facts(tmp_path)
    assert facts is not None
    reached = sum(size for name, size in sizes.items() if "in_proj" in name or "x_proj" in name)
    assert facts.adapted_parameters == reached


@pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to")
def test_transposed_and_plain_layers_in_one_model() -> None:
    model = tiny_gpt2()
    conv = model.transformer.h[0].mlp.c_fc
    plain = nn.Linear(*conv.weight.shape)
    plain.load_state_dict({"weight": conv.weight.T, "bias": conv.bias})
    model.transformer.h[0].mlp.c_fc = plain
    adapted = LoRA(rank=2, dropout=0).prepare(model, torch.float32, None)
    torch.manual_seed(0)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            parameter.data = torch.randn_like(parameter) * 0.1
    with torch.no_grad():
        expected = adapted.eval()(input_ids=IDS).logits
        merged = merge_adapter(adapted, unchanged)(input_ids=IDS).logits
    torch.testing.assert_close(merged, expected, atol=1e-4, rtol=1e-4)


def test_a_weight_that_two_layers_share_is_left_out() -> None:
    model = tiny_llama()
    layers = model.model.layers
    layers[1].mlp.up_proj.weight = layers[0].mlp.up_proj.weight
    assert not any("up_proj" in name for name in find_targets(model, "all-linear").modules)
    with pytest.raises(UnlearnerError, match=r"'model\.layers\.0\.mlp\.up_proj' shares its"):
        LoRA(targets=["up_proj"]).prepare(model, torch.float32, None)


def test_an_unknown_target_is_refused() -> None:
    with pytest.raises(
        UnlearnerError, match=r"nothing in the language model .* has the name 'c_f'"
    ):
        LoRA(targets=["q_proj", "c_f"]).prepare(tiny_llama(), torch.float32, None)


# -- refused before work starts -------------------------------------------------------------------


def test_a_model_that_needs_more_than_text_is_refused_before_training(run, tmp_path) -> None:
    model = tiny_llama()

    def forward(input_ids: torch.Tensor) -> None:
        raise ValueError("You have to specify\npixel_values")

    model.forward = forward
    message = "cannot be trained on windows of 16 tokens of text: You have to specify pixel_values"
    with pytest.raises(UnlearnerError, match=message):
        run("npo_klr", model, output_dir=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_gradient_checkpointing_that_a_model_lacks_is_refused(run) -> None:
    with pytest.raises(UnlearnerError, match="JetMoeForCausalLM does not support it"):
        run("ga", architecture("jetmoe"), gradient_checkpointing=True)


@pytest.mark.parametrize(
    ("model_type", "name"),
    [
        ("gpt2", "n_positions"),
        ("mpt", "max_seq_len"),
        ("dbrx", "max_seq_len"),
        ("rwkv", "context_length"),
        ("gemma3", "text_config.max_position_embeddings"),
        ("bloom", None),
        ("mamba", None),
    ],
)
def test_context_by_whatever_name(model_type, name, run) -> None:
    model = architecture(model_type)
    if name is None:
        assert context_length(model) is None
        return
    *path, last = name.split(".")
    setattr(model.config.text_config if path else model.config, last, 15)
    with pytest.raises(UnlearnerError, match="window=16 is longer than the model's context of 15"):
        run("ga", model)


def test_a_token_that_the_head_has_no_row_for_is_refused(run) -> None:
    model = tiny_llama()
    model.lm_head = nn.Linear(32, 100, bias=False)
    with pytest.raises(UnlearnerError, match="but the model embeds 100 tokens"):
        run("ga", model)


@pytest.mark.parametrize("finetuning", [FullFinetuning(), LoRA(rank=2)])
def test_a_model_that_is_not_causal_is_refused(finetuning, run, tmp_path) -> None:
    """BERT with an output head sees the whole window unless it is configured as a decoder."""
    with pytest.raises(UnlearnerError, match="BertLMHeadModel lets tokens see what follows them"):
        run("npo_klr", architecture("bert", is_decoder=False), finetuning, output_dir=tmp_path)
    run("npo_klr", architecture("bert"), finetuning, output_dir=tmp_path / "decoder")
