"""SimNPO: its losses by hand, and its parameters."""

import math

import pytest

from unlearners import UnlearnerError, get_unlearner

DELTA = 1.5 * math.log(2) - math.log(3) / 2  # the forget window's NLL per token less log(3) / 2


def test_simnpo_by_hand(model, batch, reference) -> None:
    """With beta = 2, sigmoid(2 * log(3) / 2) = 3/4: the loss is (2 / 2) * log(4/3)."""
    terms = get_unlearner("simnpo", beta=2, delta=DELTA).loss(model, batch, reference)
    assert terms["loss"].item() == pytest.approx(math.log(4 / 3))


def test_simnpo_gdr_by_hand(model, batch, reference) -> None:
    params = {"beta": 2, "delta": DELTA, "retain_weight": 4}
    terms = get_unlearner("simnpo_gdr", **params).loss(model, batch, reference)
    assert terms["loss"].item() == pytest.approx(math.log(4 / 3) + 4 * math.log(8 / 3) / 2)


def test_parameters_out_of_range_are_named() -> None:
    with pytest.raises(UnlearnerError, match="unlearner 'simnpo': beta=0: Input should be great"):
        get_unlearner("simnpo", beta=0)
