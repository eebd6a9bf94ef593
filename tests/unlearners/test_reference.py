"""Quantities of the model before unlearning, by window."""

import pytest
import torch

from unlearners import Reference, UnlearnerError, Windows
from unlearners.data import Side


def windows(side: Side, *index: int) -> Windows:
    """Windows of two tokens: number and number + 1."""
    numbers = torch.tensor(index)
    return Windows(torch.stack([numbers, numbers + 1], 1), numbers, side)


def test_log_probs_are_looked_up_by_position() -> None:
    reference = Reference(log_probs=torch.tensor([-1.0, -2.0, -4.0]))
    assert reference.log_probs(windows("forget", 2, 0, 2)).tolist() == [-4, -1, -4]


def test_logits_are_computed_from_the_windows() -> None:
    reference = Reference(logits=lambda given: given.input_ids[..., None] * torch.ones(3))
    assert reference.logits(windows("retain", 4)).tolist() == [[[4, 4, 4], [5, 5, 5]]]


def test_quantities_that_are_not_declared() -> None:
    with pytest.raises(UnlearnerError, match=r"^the loss reads log P_ref: declare 'forget_log_pro"):
        Reference().log_probs(windows("forget", 0))
    with pytest.raises(UnlearnerError, match=r"logits: declare 'retain_logits' in needs$"):
        Reference().logits(windows("retain", 0))


def test_windows_of_the_other_side() -> None:
    reference = Reference(log_probs=torch.zeros(1), logits=lambda given: given.input_ids)
    with pytest.raises(UnlearnerError, match=r"log_probs is for forget .*: pass batch\.forget$"):
        reference.log_probs(windows("retain", 0))
    with pytest.raises(UnlearnerError, match=r"logits is for retain .*: pass batch\.retain$"):
        reference.logits(windows("forget", 0))
