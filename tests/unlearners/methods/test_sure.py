"""SURE: its loss by hand, and few rows moved by an adapter."""

import math

import pytest
import torch

from unlearners import LoRA, UnlearnerError, get_unlearner

from ..tiny_models import tiny_llama


def test_sure_by_hand(model, batch, reference) -> None:
    """NPO's 8 log 2 at beta = 1/2, as in `test_npo`, and 2 * log(8/3) / 2 of the retain window."""
    terms = get_unlearner("sure", beta=0.5, retain_weight=2).loss(model, batch, reference)
    assert terms["loss"].item() == pytest.approx(8 * math.log(2) + math.log(8 / 3))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"percentile": 100}, "percentile=100: Input should be less than 100"),
        ({"beta": -1}, "beta=-1: Input should be greater than 0"),
    ],
)
def test_parameters_out_of_range_are_named(params, message) -> None:
    with pytest.raises(UnlearnerError, match=f"unlearner 'sure': {message}"):
        get_unlearner("sure", **params)


def test_sure_with_an_adapter_moves_few_rows_of_the_merged_weights(run) -> None:
    before, after = tiny_llama(), run("sure", tiny_llama(), LoRA(rank=4), max_steps=6)
    weights = [(a, b) for a, b in zip(before.parameters(), after.parameters(), strict=True)]
    changed = torch.cat([(a != b).any(1) for a, b in weights if a.ndim == 2 and len(a) < 300])
    assert 0.09 < changed.float().mean() < 0.11
    assert torch.equal(before.lm_head.weight, after.lm_head.weight)
