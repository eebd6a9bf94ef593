"""Retain losses by hand: the retain window has log(8/3) / 2 nats per token."""

import math

import pytest
import torch

from unlearners import Batch, UnlearnerError
from unlearners.methods._retain_loss import NEEDS, WithRetainLoss, add_retain_loss

FORGET = torch.tensor(5.0)


def test_no_retain_loss_reads_no_retain_windows(model, batch, reference) -> None:
    terms = add_retain_loss(FORGET, "none", 1, model, Batch(batch.forget), reference)
    assert terms == {"loss": FORGET, "forget": FORGET}


def test_descent_on_the_retain_set(model, batch, reference) -> None:
    terms = add_retain_loss(FORGET, "gdr", 4, model, batch, reference)
    assert terms["forget"] is FORGET
    assert terms["retain"].item() == pytest.approx(math.log(8 / 3) / 2)
    assert terms["loss"].item() == pytest.approx(5 + 2 * math.log(8 / 3))


def test_divergence_from_the_reference(model, batch, reference) -> None:
    """After token 1 both models agree; after token 0 the KL is 1/2 log(2/3) + 1/2 log 2.

    That is log(4/3) / 2. The mean over the positions of the window 1, 0, 0 is two thirds of it.
    """
    terms = add_retain_loss(FORGET, "klr", 6, model, batch, reference)
    assert terms["retain"].item() == pytest.approx(math.log(4 / 3) / 3)
    assert terms["loss"].item() == pytest.approx(5 + 2 * math.log(4 / 3))


def test_needs_of_each_kind() -> None:
    assert {"none": set(), "gdr": {"retain"}, "klr": {"retain", "retain_logits"}} == NEEDS


def test_weight_without_a_retain_loss() -> None:
    assert WithRetainLoss(retain="gdr", retain_weight=0.5).needs == {"retain"}
    with pytest.raises(UnlearnerError, match=r"^retain_weight=0.5 has no effect .* _klr variant$"):
        WithRetainLoss(retain_weight=0.5)
