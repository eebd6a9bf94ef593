"""A model of two tokens with windows and a reference, for losses worked out by hand."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from unlearners import Batch, Reference, Windows

# Probabilities of the next token, 0 or 1, after token 0 (first row) and after token 1.
MODEL = torch.tensor([[3 / 4, 1 / 4], [1 / 2, 1 / 2]])
REFERENCE = torch.tensor([[1 / 2, 1 / 2], [1 / 2, 1 / 2]])


@pytest.fixture
def model():
    """Predicts by `MODEL`; called as ``model(input_ids=ids).logits``."""
    return lambda input_ids: SimpleNamespace(logits=MODEL.log()[input_ids])


@pytest.fixture
def batch() -> Batch:
    """One window of either side.

    Forget window 0, 1, 1: probability 1/4 * 1/2, so 3 log 2 nats, 3/2 log 2 per token. Retain
    window 1, 0, 0: probability 1/2 * 3/4, so log(8/3) nats, log(8/3) / 2 per token.
    """
    index = torch.tensor([0])
    return Batch(
        forget=Windows(torch.tensor([[0, 1, 1]]), index, "forget"),
        paired=Windows(torch.tensor([[1, 0, 0]]), index, "retain"),
    )


@pytest.fixture
def reference() -> Reference:
    """The forget window is 9 times less probable than for the model; logits by `REFERENCE`."""
    log_prob = (MODEL[0, 1] * MODEL[1, 1] / 9).log()
    return Reference(
        log_probs=log_prob[None], logits=lambda windows: REFERENCE.log()[windows.input_ids]
    )
