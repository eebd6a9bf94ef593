"""Experts that share a tensor: trained in full, adapted by LoRA, merged."""

import copy
import json

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import TrainerCallback

from quantizers.architecture import expert_weights
from unlearners import UnlearnerError
from unlearners.data import Windows
from unlearners.facts import read_training_facts
from unlearners.finetuning import FullFinetuning, LoRA
from unlearners.finetuning.adapter import find_targets, merge_adapter
from unlearners.methods._row_mask import salient_rows

from ..tiny_models import architecture

IDS = torch.arange(40, 104).reshape(2, 32)
# outputs × inputs; with shared experts and dense layers; inputs × outputs with biases; the same
# without a word about it; other names
MODELS = ("mixtral", "qwen2_moe", "deepseek_v3", "gpt_oss", "llama4_text", "granitemoe")


def unchanged(original: torch.Tensor, trained: torch.Tensor) -> torch.Tensor:
    return trained


def disturb(model: torch.nn.Module) -> None:
    """Give every B a value, so that the adapter computes something and A has a gradient."""
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data = torch.randn_like(parameter) * 0.1


@pytest.mark.parametrize("model_type", MODELS)
def test_an_adapter_of_experts_computes_what_its_merge_does(model_type) -> None:
    model = architecture(model_type)
    before = dict(copy.deepcopy(model).named_parameters())
    experts = {weights.name for weights in expert_weights(model)}
    with torch.no_grad():
        base = model(input_ids=IDS).logits
    adapted = LoRA(rank=2, dropout=0.5).prepare(model, torch.float32, None)
    disturb(adapted)
    logits = adapted.eval()(input_ids=IDS).logits
    logits.square().mean().backward()
    gradients = {n: p.grad for n, p in adapted.named_parameters() if ".experts." in n}
    factors = [grad for name, grad in gradients.items() if "lora_" in name]
    assert len(factors) == 2 * len(experts)
    assert all(grad.abs().max() > 0 for grad in factors)
    with torch.no_grad(), adapted.disable_adapter():
        assert torch.equal(adapted(input_ids=IDS).logits, base)

    merged = merge_adapter(adapted, unchanged)
    with torch.no_grad():
        torch.testing.assert_close(merged(input_ids=IDS).logits, logits, atol=1e-4, rtol=1e-4)
    assert (logits - base).abs().max() > 0.1
    after = dict(merged.named_parameters())
    changed = {name for name, weight in before.items() if not torch.equal(after[name], weight)}
    assert experts <= changed
    assert before.keys() == after.keys()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_merge_by_hand(dtype) -> None:
    """W + (alpha / rank) B A of every expert alone, rounded once.

    In PEFT's order rows e r to (e + 1) r of A are those of expert e, and columns e, e + E, e + 2 E
    ... of B, with E experts.
    """
    model = architecture("mixtral", dtype)
    experts = model.model.layers[0].mlp.experts
    weight = experts.down_proj.detach().clone()
    lora = LoRA(rank=2, alpha=6, targets=["layers.0.mlp.experts.down_proj"])
    adapted = lora.prepare(model, torch.float32, None)
    disturb(adapted)
    layer = model.model.layers[0].mlp.experts
    a, b = (part["default"].weight.detach().double() for part in (layer.lora_A, layer.lora_B))
    merged = merge_adapter(adapted, unchanged).model.layers[0].mlp.experts.down_proj
    count = len(weight)
    for expert in range(count):
        exact = weight[expert].double() + 3 * b[:, expert::count] @ a[2 * expert : 2 * expert + 2]
        if dtype is torch.bfloat16:
            assert (merged[expert] != exact.float().bfloat16()).float().mean() < 1e-3
        else:
            torch.testing.assert_close(merged[expert].double(), exact, atol=1e-6, rtol=1e-6)


def test_targets() -> None:
    """Shared experts have names that PEFT takes for experts': they keep rank 2 all the same."""
    model = architecture("qwen2_moe")
    everything, attention, mlp = (
        find_targets(model, targets) for targets in ("all-linear", "attention", "mlp")
    )
    assert attention.parameters == []
    assert {name.rpartition(".")[2] for name in everything.parameters} == {
        "gate_up_proj",
        "down_proj",
    }
    assert mlp.parameters == everything.parameters
    assert {*attention.modules} | {*mlp.modules} == {*everything.modules}
    adapted = LoRA(rank=2, dropout=0.5).prepare(model, torch.float32, None)
    shared = adapted.get_base_model().model.layers[0].mlp.shared_expert.gate_proj
    assert tuple(shared.lora_A["default"].weight.shape) == (2, 64)
    experts = adapted.get_base_model().model.layers[0].mlp.experts
    assert len(experts.lora_A["default"].weight) == 2 * 4
    query = adapted.get_base_model().model.layers[0].self_attn.q_proj
    assert query.lora_dropout["default"].p == 0.5


def test_experts_that_peft_cannot_adapt_are_refused() -> None:
    model = architecture("dbrx")
    with pytest.raises(UnlearnerError, match=r"kept in one matrix .* use targets='attention'"):
        LoRA().prepare(model, torch.float32, None)
    LoRA(targets="attention").prepare(model, torch.float32, None)


def test_peft_reads_the_saved_adapter(run, tmp_path) -> None:
    model = run("ga_gdr", architecture("gpt_oss"), LoRA(rank=2), max_steps=1, output_dir=tmp_path)
    again = PeftModel.from_pretrained(architecture("gpt_oss"), tmp_path / "adapter")
    again = dict(again.merge_and_unload().named_parameters())
    for name, weight in model.named_parameters():
        torch.testing.assert_close(weight, again[name], msg=name)


class Kill(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs) -> None:
        if state.global_step == 2:
            raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("model_type", "finetuning"),
    [("mixtral", LoRA(rank=2)), ("mixtral", FullFinetuning())],
    ids=lambda value: getattr(value, "name", value),
)
def test_a_killed_run_ends_with_the_same_weights(model_type, finetuning, run, tmp_path) -> None:
    """Transformers would write these weights under other names than those of the model."""

    def unlearn(folder: str, callbacks=()) -> torch.nn.Module:
        return run(
            "npo_gdr",
            architecture(model_type),
            finetuning,
            output_dir=tmp_path / folder,
            callbacks=callbacks,
            save_steps=1,
        )

    whole = unlearn("whole")
    with pytest.raises(KeyboardInterrupt):
        unlearn("killed", [Kill()])
    resumed = unlearn("killed")
    for (name, one), other in zip(whole.named_parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other), name
    steps = (tmp_path / "killed" / "loss.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in steps] == [1, 2, 3]


def test_facts_count_the_weights_that_have_an_adapter(run, tmp_path) -> None:
    """Two layers of Mixtral: 4 experts of 3 × 64 × 96, attention with heads of 16.

    Attention: 2 × 64 × 64 (query, output) and 2 × 64 × 32 (key, value) a layer. Left out are
    embeddings, head, norms and routers.
    """
    run("ga", architecture("mixtral"), LoRA(rank=2), output_dir=tmp_path, max_steps=1)
    facts = read_training_facts(tmp_path)
    assert facts is not None
    assert facts.adapted_parameters == 2 * (4 * 3 * 64 * 96 + 2 * 64 * 64 + 2 * 64 * 32)
    assert load_file(tmp_path / "adapter" / "adapter_model.safetensors")


def test_rows_of_sure_are_those_of_every_expert() -> None:
    model = architecture("mixtral")
    windows = Windows(IDS[:1], torch.tensor([0]), "forget")
    rows = salient_rows(model, windows, 50.0)
    weight = model.model.layers[0].mlp.experts.down_proj
    assert rows[weight].shape == weight.shape[:2]
    loss = model(input_ids=IDS[:1]).logits.log_softmax(-1)
    loss = -loss[0, torch.arange(31), IDS[0, 1:]].mean()
    gradients = torch.autograd.grad(loss, [*rows])
    norms = [gradient.square().sum(-1).sqrt() for gradient in gradients]
    threshold = torch.cat([norm.flatten() for norm in norms]).median()
    differing = sum(
        ((norm > threshold) != rows[p]).sum() for p, norm in zip(rows, norms, strict=True)
    )
    assert differing <= 4  # the median of an even number of rows, and sums in another order
