"""Gradient ascent: its losses by hand, and its parameters."""

import math

import pytest

from unlearners import UnlearnerError, get_unlearner


def test_ga_by_hand(model, batch, reference) -> None:
    """The negated NLL of the forget window: -3/2 log 2 per token."""
    terms = get_unlearner("ga").loss(model, batch, reference)
    assert terms["loss"].item() == pytest.approx(-1.5 * math.log(2))


def test_ga_gdr_by_hand(model, batch, reference) -> None:
    """With a weight of 2 the retain window adds 2 * log(8/3) / 2."""
    terms = get_unlearner("ga_gdr", retain_weight=2).loss(model, batch, reference)
    assert terms["retain"].item() == pytest.approx(math.log(8 / 3) / 2)
    assert terms["loss"].item() == pytest.approx(-1.5 * math.log(2) + math.log(8 / 3))


def test_ga_klr_by_hand(model, batch, reference) -> None:
    """KL(p_ref || p) is 0 after token 1, and (log(2/3) + log 2) / 2 = log(4/3) / 2 after token 0.

    The retain window 1, 0, 0 has one of the former and two of the latter: log(4/3) / 3 on average.
    """
    terms = get_unlearner("ga_klr").loss(model, batch, reference)
    assert terms["retain"].item() == pytest.approx(math.log(4 / 3) / 3)
    assert terms["loss"].item() == pytest.approx(-1.5 * math.log(2) + math.log(4 / 3) / 3)


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("ga", {"retain_weight": 2}, "retain_weight=2.0 has no effect without a retain loss"),
        ("ga_gdr", {"retain_weight": -1}, "retain_weight=-1: Input should be greater than or"),
        ("ga_gdr", {"retain_weight": "inf"}, "retain_weight='inf': Input should be a finite"),
    ],
)
def test_parameters_out_of_range_are_named(name, params, message) -> None:
    with pytest.raises(UnlearnerError, match=f"unlearner '{name}': {message}"):
        get_unlearner(name, **params)
