"""Adapters: what is trained, what is merged, and what is left alone."""

import copy
import json

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file

from unlearners import UnlearnerError
from unlearners.finetuning import FullFinetuning, LoRA, get_finetuning
from unlearners.finetuning.adapter import find_targets, merge_adapter

from ..tiny_models import tiny_gpt2, tiny_llama


def unchanged(original: torch.Tensor, trained: torch.Tensor) -> torch.Tensor:
    return trained


def trained_adapter(model, lora: LoRA, dtype: torch.dtype = torch.float32, scale: float = 0.05):
    """An adapter with a B that is no longer zero."""
    adapted = lora.prepare(model, dtype, None)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
    return adapted.eval()


IDS = torch.arange(24).reshape(2, 12)


@pytest.mark.parametrize("make_model", [tiny_llama, tiny_gpt2])
def test_merged_logits_equal_adapter_logits(make_model) -> None:
    adapted = trained_adapter(make_model(), LoRA(rank=3, alpha=7, dropout=0.5))
    with torch.no_grad():
        expected = adapted(input_ids=IDS).logits
        base = make_model()(input_ids=IDS).logits
        merged = merge_adapter(adapted, unchanged)
        logits = merged(input_ids=IDS).logits
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)
    assert (expected - base).abs().max() > 0.1
    assert not isinstance(merged, PeftModel)
    assert not any("lora" in name for name, _ in merged.named_modules())


def test_merge_by_hand() -> None:
    """Rank 1, alpha 4: W + 4 B A, for the one projection that is named."""
    model = tiny_llama()
    weight = model.model.layers[0].mlp.up_proj.weight.detach().clone()
    lora = LoRA(rank=1, alpha=4, targets=["layers.0.mlp.up_proj"])
    adapted = lora.prepare(model, torch.float32, None)
    layer = model.model.layers[0].mlp.up_proj
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    with torch.no_grad():
        a.copy_(torch.arange(32.0)[None] / 32)
        b.copy_(torch.arange(48.0)[:, None] / 48)
    merged = merge_adapter(adapted, unchanged)
    expected = weight + 4 * torch.outer(torch.arange(48.0) / 48, torch.arange(32.0) / 32)
    torch.testing.assert_close(merged.model.layers[0].mlp.up_proj.weight, expected)


def test_only_targets_change_and_the_rest_keeps_its_bits() -> None:
    model = tiny_llama(torch.bfloat16)
    before = copy.deepcopy(model.state_dict())
    merged = merge_adapter(trained_adapter(model, LoRA(rank=2, targets="mlp")), unchanged)
    for name, after in merged.state_dict().items():
        assert torch.equal(before[name], after) is ("mlp" not in name), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_training_leaves_the_base_bit_identical(dtype, run, tmp_path, monkeypatch) -> None:
    """Checked between the last step and the merge."""
    before = dict(tiny_llama(dtype).named_parameters())
    seen = {}

    def spy(self, model, *args):
        for name, parameter in model.get_base_model().named_parameters():
            name = name.replace(".base_layer", "")
            if "lora_" not in name:
                seen[name] = torch.equal(parameter, before[name])
        return merge_adapter(model, unchanged)

    monkeypatch.setattr(LoRA, "finish", spy)
    unlearned = run("npo_gdr", tiny_llama(dtype), LoRA(rank=2), learning_rate=1e-2)
    assert seen == dict.fromkeys(before, True)
    name = "model.layers.0.mlp.up_proj.weight"
    assert not torch.equal(unlearned.get_parameter(name), before[name])


def test_a_bfloat16_weight_is_rounded_once() -> None:
    """Merged in float32, every weight is the bfloat16 number nearest to its exact value.

    Arithmetic in bfloat16 rounds A, B and their product before the sum: more than a quarter of
    the weights end elsewhere.
    """
    lora = LoRA(rank=2, targets=["up_proj"])
    model = tiny_llama(torch.bfloat16)
    weight = model.model.layers[0].mlp.up_proj.weight.detach().clone()
    adapted = trained_adapter(model, lora)
    layer = model.model.layers[0].mlp.up_proj
    a, b = (part["default"].weight.detach().double() for part in (layer.lora_A, layer.lora_B))
    exact = weight.double() + lora.alpha / lora.rank * (b @ a)
    in_bfloat16 = weight + (lora.alpha / lora.rank * (b.bfloat16() @ a.bfloat16()))
    merged = merge_adapter(adapted, unchanged).model.layers[0].mlp.up_proj.weight

    assert merged.dtype == in_bfloat16.dtype == torch.bfloat16
    assert torch.equal(merged, exact.float().bfloat16())
    assert (in_bfloat16 != merged).float().mean() > 0.25


@pytest.mark.parametrize("checkpointing", [False, True])
def test_every_adapter_layer_receives_a_gradient(checkpointing, run) -> None:
    """In the first step B's gradient is the one that is not zero: B itself is, and so A's is."""
    from transformers import TrainerCallback

    seen = {}

    class Look(TrainerCallback):
        def on_pre_optimizer_step(self, args, state, control, *, model, **kwargs) -> None:
            for name, parameter in model.named_parameters():
                if "lora_B" in name:
                    seen[name] = parameter.grad is not None and parameter.grad.abs().max().item()

    run(
        "npo_klr",
        tiny_llama(),
        LoRA(rank=2),
        callbacks=[Look()],
        max_steps=1,
        gradient_checkpointing=checkpointing,
    )
    assert len(seen) == 2 * 7
    assert all(seen.values()), seen


@pytest.mark.parametrize("finetuning", [FullFinetuning(), LoRA(rank=2)], ids=lambda f: f.name)
def test_gradient_checkpointing_changes_nothing_but_memory(finetuning, run) -> None:
    one, other = (
        run("npo_klr", tiny_llama(), finetuning, gradient_checkpointing=on) for on in (False, True)
    )
    for (name, a), b in zip(one.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=0, msg=name)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_adapter_is_saved_too(dtype, run, tmp_path) -> None:
    """In the dtype it was trained in; merged into the target once more it gives the same model."""
    model = run("ga_gdr", tiny_llama(), LoRA(rank=2), weights_dtype=dtype, output_dir=tmp_path)
    tensors = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert {str(tensor.dtype) for tensor in tensors.values()} == {f"torch.{dtype}"}
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["bias"]) == (2, 32, "none")
    again = PeftModel.from_pretrained(tiny_llama(), tmp_path / "adapter").merge_and_unload()
    for (name, one), other in zip(model.named_parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(one, other, msg=name)


def test_targets() -> None:
    attention = {"q_proj", "k_proj", "v_proj", "o_proj"}
    mlp = {"gate_proj", "up_proj", "down_proj"}

    def last(names: list[str]) -> set[str]:
        return {name.rsplit(".")[-1] for name in names}

    llama = tiny_llama()
    assert last(find_targets(llama, "all-linear").modules) == attention | mlp
    assert last(find_targets(llama, "attention").modules) == attention
    assert last(find_targets(llama, "mlp").modules) == mlp
    assert find_targets(llama, "all-linear").parameters == []
    gpt2 = find_targets(tiny_gpt2(), "attention").modules
    assert gpt2 == [f"transformer.h.{i}.attn.{p}" for i in (0, 1) for p in ("c_attn", "c_proj")]


def test_targets_that_do_not_exist_are_named() -> None:
    with pytest.raises(UnlearnerError, match=r"lora targets=\('qkv',\): "):
        LoRA(targets=["qkv"]).prepare(tiny_llama(), torch.float32, None)


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`")
@pytest.mark.parametrize("target", ["lm_head", "embed_tokens"])
def test_a_weight_with_two_uses_takes_no_adapter(target) -> None:
    with pytest.raises(UnlearnerError, match=f"'.*{target}' shares its weight"):
        LoRA(targets=[target]).prepare(tiny_llama(tie_word_embeddings=True), torch.float32, None)
    adapted = trained_adapter(tiny_llama(), LoRA(targets=[target]))
    with torch.no_grad():
        expected = adapted(input_ids=IDS).logits
        merged = merge_adapter(adapted, unchanged)(input_ids=IDS).logits
    torch.testing.assert_close(merged, expected, atol=1e-4, rtol=1e-4)


def test_configurations_survive_json() -> None:
    for finetuning in (FullFinetuning(), LoRA(), LoRA(rank=4, alpha=2.5, targets=["q_proj"])):
        params = json.loads(json.dumps(finetuning.to_dict()))
        assert get_finetuning(finetuning.name, **params) == finetuning


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("qlora", {}, "unknown finetuning 'qlora': available: full, lora"),
        ("full", {"rank": 4}, "'full' has no parameter 'rank': available: none"),
        ("lora", {"r": 4}, "'lora' has no parameter 'r': available: rank, alpha, dropout, targets"),
        ("lora", {"rank": 0}, "finetuning 'lora': rank=0: Input should be greater than 0"),
        ("lora", {"rank": 2.5}, "rank=2.5: Input should be a valid integer"),
        ("lora", {"alpha": 0}, "alpha=0: Input should be greater than 0"),
        ("lora", {"dropout": 1}, "dropout=1: Input should be less than 1"),
        (
            "lora",
            {"targets": "all"},
            "targets='all': Input should be 'all-linear', 'mlp' or 'atten",
        ),
        ("lora", {"targets": []}, r"targets=\[\]: .* at least 1 item"),
    ],
)
def test_bad_configurations_are_named(name, params, message) -> None:
    with pytest.raises(UnlearnerError, match=message):
        get_finetuning(name, **params)


def test_weights_dtype_decides_what_moves(run) -> None:
    """One run in float32, one in bfloat16 with no float32 copy, from the same bfloat16 model.

    AdamW's first step moves every weight by the learning rate, here 1e-4. bfloat16 keeps 8
    significant bits: a step of d moves w only where d is at least half the spacing there, so for
    |w| up to about 2 ** 8 d = 0.026 (between 2 ** -6 and 2 ** -5, half a spacing is 6e-5; one
    binade up it is 1.2e-4, too much). In float32 all weights move, and show on the bfloat16 grid
    where rounding lets them.
    """
    target = tiny_llama().model.layers[0].mlp.up_proj.weight.detach().bfloat16().float()
    training = {"learning_rate": 1e-4, "max_steps": 1, "batch_size": 7}

    def moved(dtype: str) -> torch.Tensor:
        model = tiny_llama()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(parameter.bfloat16())
        unlearned = run("ga_gdr", model, weights_dtype=dtype, **training)
        return unlearned.model.layers[0].mlp.up_proj.weight.detach() != target

    in_float32, in_bfloat16 = moved("float32"), moved("bfloat16")
    assert in_float32.float().mean() > 0.99
    assert in_bfloat16.float().mean() < 0.4
    assert target[in_bfloat16].abs().max() <= 2**-5
    assert target[in_bfloat16].abs().mean() < target.abs().mean() / 4


def test_equal_scales_are_one_setting() -> None:
    assert repr(LoRA(alpha=32.0).to_dict()) == repr(LoRA(alpha=32).to_dict())
    assert LoRA(alpha=0.5).to_dict()["alpha"] == 0.5
