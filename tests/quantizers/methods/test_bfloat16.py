"""The cast to bfloat16."""

import copy

import torch

from quantizers.methods.bfloat16 import BFloat16


def test_bfloat16_casts_parameters_and_leaves_buffers(model):
    """A GPT-2 has its head tied to the embeddings, a Llama its rotary frequencies in buffers."""
    model.register_buffer("frequencies", torch.tensor([1 / 3]))
    before = copy.deepcopy(model)
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert BFloat16()(model) is model
    for name, parameter in model.named_parameters():
        assert parameter.dtype == torch.bfloat16
        assert torch.equal(parameter, before.get_parameter(name).to(torch.bfloat16))
    for name, buffer in model.named_buffers():
        assert buffer.dtype == before.get_buffer(name).dtype
        assert torch.equal(buffer, before.get_buffer(name))
    assert model.dtype == model.config.dtype == torch.bfloat16
    assert (model.get_output_embeddings().weight is model.get_input_embeddings().weight) == tied
