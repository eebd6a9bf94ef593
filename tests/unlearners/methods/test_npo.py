"""NPO: its losses by hand, and its parameters."""

import math

import pytest

from unlearners import UnlearnerError, get_unlearner
from unlearners.methods.npo import NPO


def test_npo_by_hand(model, batch, reference) -> None:
    """The model is 9 times as probable as the reference: sigmoid(-1/2 * log 9) = 1/4.

    So with beta = 1/2 the loss is (2 / beta) * log 4 = 8 log 2.
    """
    terms = get_unlearner("npo", beta=0.5).loss(model, batch, reference)
    assert terms["loss"].item() == pytest.approx(8 * math.log(2))


@pytest.mark.parametrize(("name", "retain"), [("npo_gdr", 8 / 3), ("npo_klr", (4 / 3) ** (2 / 3))])
def test_npo_with_a_retain_loss_by_hand(name, retain, model, batch, reference) -> None:
    """Retain losses log(8/3) / 2 and log(4/3) / 3, as in `test_gradient_ascent`."""
    terms = get_unlearner(name, beta=0.5, retain_weight=10).loss(model, batch, reference)
    assert terms["forget"].item() == pytest.approx(8 * math.log(2))
    assert terms["loss"].item() == pytest.approx(8 * math.log(2) + 10 * math.log(retain) / 2)


def test_parameters_are_checked_alike_however_it_is_built() -> None:
    line = "beta=-1: Input should be greater than 0"
    with pytest.raises(UnlearnerError, match=f"^{line}$"):
        NPO(beta=-1)
    with pytest.raises(UnlearnerError, match=f"^unlearner 'npo': {line}$"):
        get_unlearner("npo", beta=-1)
    assert repr(NPO(beta="1e-1")) == repr(NPO())  # a text, as YAML reads 1e-1
