"""Experts that share a tensor: rounded and measured one by one, or refused."""

import ast
import copy
import math

import pytest
import torch
from transformers import (
    DbrxConfig,
    DbrxForCausalLM,
    GptOssConfig,
    GptOssForCausalLM,
    JetMoeConfig,
    JetMoeForCausalLM,
    Llama4ForCausalLM,
    Llama4TextConfig,
    MixtralConfig,
    MixtralForCausalLM,
    RecurrentGemmaConfig,
    RecurrentGemmaForCausalLM,
)

from quantizers import QuantizerError, get_quantizer
from quantizers.architecture import expert_weights
from quantizers.methods.rtn import RoundToNearest
from quantizers.saving import load_quantized, save_quantized
from quantizers.survival import measure_rounding, measure_update

SIZES = dict(
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=1,
    num_attention_heads=2,
    num_key_value_heads=2,
    vocab_size=50,
)


def mixtral():
    return MixtralForCausalLM(MixtralConfig(num_local_experts=3, num_experts_per_tok=2, **SIZES))


def gpt_oss():
    config = GptOssConfig(num_local_experts=3, num_experts_per_tok=2, head_dim=16, **SIZES)
    return GptOssForCausalLM(config)


def jetmoe():
    config = JetMoeConfig(num_local_experts=3, num_experts_per_tok=2, kv_channels=16, **SIZES)
    return JetMoeForCausalLM(config)


def dbrx():
    config = DbrxConfig(
        d_model=32,
        n_heads=2,
        n_layers=1,
        max_seq_len=64,
        vocab_size=50,
        attn_config=dict(kv_n_heads=2, rope_theta=1e4, clip_qkv=8),
        ffn_config=dict(ffn_hidden_size=48, moe_num_experts=3, moe_top_k=2, hidden_size=32),
    )
    return DbrxForCausalLM(config)


def llama4():
    config = Llama4TextConfig(
        num_local_experts=3,
        interleave_moe_layer_step=1,
        intermediate_size_mlp=48,
        head_dim=16,
        **SIZES,
    )
    return Llama4ForCausalLM(config)


def recurrent_gemma():
    config = RecurrentGemmaConfig(
        lru_width=32, block_types=["recurrent"], attention_window_size=8, **SIZES
    )
    return RecurrentGemmaForCausalLM(config)


# Tensor of experts, and its values seen as experts × outputs × inputs.
EXPERTS = {
    mixtral: ("model.layers.0.mlp.experts.gate_up_proj", lambda w: w),
    gpt_oss: ("model.layers.0.mlp.experts.gate_up_proj", lambda w: w.mT),
    jetmoe: ("model.layers.0.mlp.input_linear.weight", lambda w: w),
    dbrx: ("transformer.blocks.0.ffn.experts.mlp.w2", lambda w: w.view(3, 48, 32).mT),
}


@pytest.fixture(params=EXPERTS, ids=lambda build: build.__name__)
def mixture(request):
    """A model, the name of a tensor of three experts, and a view of it by outputs."""
    torch.manual_seed(0)
    model = request.param().eval()
    name, by_outputs = EXPERTS[request.param]
    return model, name, by_outputs(model.get_parameter(name).detach())


def test_each_expert_has_scales_of_its_own(mixture):
    """A row 8, 1.4, 2.6 of int4 becomes 7, 1, 3, and 80, 14, 26 in another expert ten times that.

    One scale for both would be 10, and the first row 10, 0, 0.
    """
    model, _, weight = mixture
    row = torch.tensor([8, 1.4, 2.6])
    weight.zero_()
    weight[0, 5, :3] = row
    weight[2, 5, :3] = 10 * row
    get_quantizer("rtn-int4", group_size="tensor")(model)
    expected = torch.zeros_like(weight)
    expected[0, 5, :3] = torch.tensor([7.0, 1, 3])
    expected[2, 5, :3] = torch.tensor([70.0, 10, 30])
    assert torch.equal(weight, expected)


def test_groups_run_along_input_features(mixture):
    """Inputs 0 to 15 have a peak of 8, hence steps of 1; the next sixteen steps of 0.125."""
    model, _, weight = mixture
    weight.zero_()
    weight[1, :, 0], weight[1, :, 1], weight[1, :, 16], weight[1, :, 17] = 8, 0.3, 1, 0.3
    get_quantizer("rtn-int4", group_size=16)(model)
    values = [7, 0, 7 / 8, 2 / 8]
    for output in weight[1]:
        assert output[[0, 1, 16, 17]].tolist() == values
        assert output.count_nonzero() == 3


@pytest.mark.parametrize("build", [mixtral, gpt_oss, llama4], ids=lambda build: build.__name__)
def test_inputs_of_an_expert_are_where_its_axis_says(build):
    """Weights of the first input are zero, so that the outputs do not depend on it."""
    torch.manual_seed(0)
    model = build()
    experts = {weights.parameter: weights for weights in expert_weights(model)}
    first, last = experts["gate_up_proj"], experts["down_proj"]
    x = torch.randn(3, 32)
    other = x.clone()
    other[:, 0] += 5
    route = () if build is llama4 else (torch.tensor([[0], [1], [2]]), torch.ones(3, 1))
    with torch.no_grad():
        assert not torch.allclose(first.module(x, *route), first.module(other, *route))
        first.stack.select(first.axis, 0).zero_()
        outputs = first.module(x, *route)
        assert torch.allclose(outputs, first.module(other, *route))
        last.stack.select(last.axis, 0).zero_()  # a feature between, so that all outputs change
        assert (first.module(x, *route) != outputs).all()


def test_every_linear_weight_and_expert_is_rounded(mixture):
    model, name, _ = mixture
    before = copy.deepcopy(model.state_dict())
    get_quantizer("rtn-int3")(model)
    changed = {key for key, old in before.items() if not torch.equal(old, model.state_dict()[key])}
    left = {key.removesuffix(".weight").rpartition(".")[2] for key in before.keys() - changed}
    assert name in changed
    # embeddings, head, norms, biases, sinks, and routers that are no nn.Linear
    assert left <= {
        *("embed_tokens", "wte", "lm_head", "norm", "norm_1", "norm_2", "norm_f", "bias"),
        *("input_layernorm", "post_attention_layernorm", "sinks", "gate", "router"),
        *("gate_up_proj_bias", "down_proj_bias"),
    }


def test_skip_takes_tensors_of_experts(mixture):
    model, name, weight = mixture
    before = weight.clone()
    pattern = "*" + name.removesuffix(".weight")[-12:]
    get_quantizer("rtn-int4", skip=[pattern])(model)
    assert torch.equal(weight, before)


def test_reloaded(mixture, tmp_path):
    model, _, _ = mixture
    quantizer = get_quantizer("rtn-int4")
    save_quantized(quantizer(model), tmp_path, quantizer)
    state = load_quantized(tmp_path).state_dict()
    assert state.keys() == model.state_dict().keys()
    for key, value in model.state_dict().items():
        assert torch.equal(state[key], value), key


@pytest.mark.parametrize("library", ["bitsandbytes", "quanto"])
def test_libraries_that_replace_modules_refuse_before_any_work(mixture, library):
    model, name, _ = mixture
    quantizer = {"bitsandbytes": "bnb-nf4", "quanto": "quanto-int4"}[library]
    if library == "bitsandbytes":
        pytest.importorskip(library)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(QuantizerError) as caught:
        get_quantizer(quantizer)(model)
    first = name.removesuffix(".weight").replace(".w2", ".w1")
    message, _, patterns = str(caught.value).partition(", or leave it out (skip=")
    assert message == (
        f"{library} cannot quantize '{first}': it holds the weights of several experts in one "
        "tensor; use rtn-int4 or rtn-int8, which round weights in place"
    )
    assert all(torch.equal(old, model.state_dict()[key]) for key, old in before.items())
    patterns = ast.literal_eval(patterns.removesuffix(")"))
    quantized = get_quantizer(quantizer, skip=patterns)(model)
    assert torch.equal(quantized.get_parameter(name), before[name])


def test_an_update_of_one_expert_by_hand(mixture):
    """A row 8, 1, 2, 0 of one expert becomes 8, 1.4, 2.6, 0.3, as in `test_survival`.

    ΔW = (0, 0.4, 0.6, 0.3): ‖ΔW‖² = 0.61, ‖W0‖² = 69 and rank 1, in one of three experts. One
    index changes. Q(Wu) − Q(W0) = (0, 0, 1, 0): 0.6 / 0.61 is kept, and 0.09 / 0.61 is zeroed.
    """
    model, name, weight = mixture
    weight.zero_()
    weight[1, 5, :3] = torch.tensor([8.0, 1, 2])
    target = copy.deepcopy(model)
    weight[1, 5, :4] = torch.tensor([8.0, 1.4, 2.6, 0.3])
    layer = name.removesuffix(".weight")
    updates = measure_update(target, model)
    assert updates.total.norm == pytest.approx(math.sqrt(0.61), rel=1e-6)
    update = updates.layers[layer]
    assert update.norm == updates.total.norm
    assert update.parameters == weight.numel()
    assert update.relative_norm == pytest.approx(math.sqrt(0.61 / 69), rel=1e-6)
    assert update.effective_rank == pytest.approx(1 / 3)
    assert updates.kinds[layer.rpartition(".")[2]].norm == updates.total.norm

    quantizer = RoundToNearest(bits=4)
    roundings = measure_rounding(target, model, quantizer, quantizer(copy.deepcopy(model)))
    for result in (roundings.layers[layer], roundings.total):
        assert result.kept_share == pytest.approx(0.6 / 0.61, rel=1e-6)
        assert result.zeroed_share == pytest.approx(0.09 / 0.61, rel=1e-6)
        assert result.noise == pytest.approx(math.sqrt(0.41 / 0.61), rel=1e-6)
        assert result.largest_move == pytest.approx(0.6, rel=1e-6)
    assert roundings.layers[layer].changed_indices == 1 / weight.numel()
    assert roundings.layers[layer].changed_scales == 0
    others = [value for key, value in roundings.layers.items() if key != layer]
    assert all(value.kept_share is None and value.changed_indices == 0 for value in others)


def test_other_parameters_of_three_dimensions_stay():
    """The gates of RecurrentGemma are no experts, and no reason to refuse the model."""
    torch.manual_seed(0)
    model = recurrent_gemma()
    before = copy.deepcopy(model.state_dict())
    after = get_quantizer("rtn-int4")(model).state_dict()
    gate = "model.layers.0.temporal_block.rg_lru.input_gate_weight"
    assert before[gate].ndim == 3
    assert torch.equal(before[gate], after[gate])
    linear = "model.layers.0.temporal_block.linear_x.weight"
    assert not torch.equal(before[linear], after[linear])
