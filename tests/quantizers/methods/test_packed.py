"""Packed round-to-nearest: the simulated form to the last bit, in a fraction of the memory."""

import copy
import itertools

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from quantizers import get_quantizer
from quantizers.methods.packed import PackedLinear, pack, unpack


def test_packing_by_hand():
    """Two's complement from the lowest bits up: 1 is 0001, -2 is 1110, so the byte is 1110 0001."""
    assert pack(torch.tensor([[1, -2, 7]], dtype=torch.int8), 4).tolist() == [[0b11100001, 0b0111]]
    assert pack(torch.tensor([[1, -2, 0, -1]], dtype=torch.int8), 2).tolist() == [[0b11001001]]
    assert pack(torch.tensor([[-1, 5]], dtype=torch.int8), 8).tolist() == [[255, 5]]


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("columns", [1, 2, 3, 4, 5, 256])
def test_every_index_comes_back(bits, columns):
    values = itertools.cycle(range(-(2 ** (bits - 1)), 2 ** (bits - 1)))
    indices = torch.tensor(list(itertools.islice(values, 3 * columns)), dtype=torch.int8)
    indices = indices.view(3, columns)
    packed = pack(indices, bits)
    assert packed.dtype == torch.uint8
    assert packed.shape == (3, -(-columns * bits // 8))
    assert torch.equal(unpack(packed, bits)[:, :columns], indices)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("group_size", [24, "row", "tensor"])
@pytest.mark.parametrize("bits", [2, 3, 4, 6, 8])
def test_same_logits_as_simulated(model, logits, dtype, group_size, bits):
    model.to(dtype)
    params = dict(group_size=group_size, restricted=bits == 3)
    simulated = get_quantizer(f"rtn-int{bits}", **params)(copy.deepcopy(model))
    packed = get_quantizer(f"rtn-int{bits}-packed", **params)(model)
    for name, module in simulated.named_modules():
        if isinstance(module, Conv1D | nn.Linear) and name != "lm_head":
            weight = module.weight.T if isinstance(module, Conv1D) else module.weight
            assert torch.equal(packed.get_submodule(name).dequantize(dtype), weight)
    torch.testing.assert_close(logits(packed), logits(simulated))


def test_memory_is_saved(llama):
    """A 96 × 64 layer at 4 bits: 32 bytes of indices and one float32 scale a row."""
    packed = get_quantizer("rtn-int4-packed")(llama)
    layer = packed.model.layers[0].mlp.up_proj
    assert isinstance(layer, PackedLinear)
    assert sum(tensor.nbytes for tensor in layer.state_dict().values()) == 96 * (32 + 4)
    assert layer.bias is None


def test_the_head_keeps_its_weights(llama):
    head = llama.lm_head
    assert get_quantizer("rtn-int4-packed")(llama).lm_head is head


def test_replaced_layers_are_freed_one_by_one(llama, peak_memory):
    """Beside the packed model, at most one layer in float32 and its indices are alive."""
    packed_bytes = 2 * (2 * 64 * 36 + 2 * 32 * 36 + 2 * 96 * 36 + 64 * (48 + 4))
    with peak_memory:
        get_quantizer("rtn-int4-packed")(llama)
    assert peak_memory.peak < packed_bytes + 3 * 96 * 64 * 4
