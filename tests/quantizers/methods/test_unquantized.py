"""The quantizer `none`."""

import copy

import torch

from quantizers.methods.unquantized import Unquantized


def test_the_identity_returns_the_model_itself(llama):
    before = copy.deepcopy(llama.state_dict())
    assert Unquantized()(llama) is llama
    for name, tensor in llama.state_dict().items():
        assert torch.equal(tensor, before[name])
