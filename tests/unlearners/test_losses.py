"""Losses against arithmetic done by hand, and their gradients against finite differences."""

import math
from collections.abc import Callable

import pytest
import torch

from unlearners import losses


def logits_of(probabilities: list[list[float]]) -> torch.Tensor:
    """One sequence with the given rows as next-token distributions."""
    return torch.tensor([probabilities]).log()


def test_token_log_probs_by_hand() -> None:
    """Tokens 0, 1, 1: position 0 predicts token 1 with 1/4, position 1 predicts token 1 with 1/2.

    What the last position predicts is not in the sequence. Adding 7 to all logits of a position
    changes nothing.
    """
    logits = logits_of([[0.75, 0.25], [0.5, 0.5], [0.9, 0.1]])
    logits[0, 1] += 7
    labels = torch.tensor([[0, 1, 1]])
    expected = torch.tensor([[math.log(1 / 4), math.log(1 / 2)]])
    torch.testing.assert_close(losses.token_log_probs(logits, labels), expected)
    torch.testing.assert_close(losses.token_nll(logits, labels), -expected.mean())
    torch.testing.assert_close(losses.sequence_log_probs(logits, labels), expected.sum(1))


def test_padding_counts_nowhere() -> None:
    """Sequence one scores log 1/4 and log 1/2, sequence two log 1/2 and a padding.

    The token mean is (log 4 + log 2 + log 2) / 3 = 4/3 log 2, not a mean over four places; the
    sequence means are 3/2 log 2 and log 2.
    """
    one, two = [[0.75, 0.25], [0.5, 0.5], [0.9, 0.1]], [[0.5, 0.5], [0.1, 0.9], [0.9, 0.1]]
    logits = torch.cat([logits_of(one), logits_of(two)])
    labels = torch.tensor([[0, 1, 1], [0, 1, losses.IGNORE]])
    log2 = math.log(2)
    assert losses.token_nll(logits, labels).item() == pytest.approx(4 / 3 * log2)
    assert losses.sequence_log_probs(logits, labels).tolist() == pytest.approx([-3 * log2, -log2])
    means = losses.sequence_mean_nll(logits, labels)
    assert means.tolist() == pytest.approx([1.5 * log2, log2])


def test_npo_by_hand() -> None:
    """With beta = 1/2 and log-ratios 0 and 2 log 3, sigmoid(-beta * r) is 1/2 and 1/4.

    So the loss is (2 / beta) * (log 2 + log 4) / 2 = 4 * 1.5 * log 2 = 6 log 2.
    """
    value = losses.npo(torch.tensor([0.0, 2 * math.log(3)]), beta=0.5)
    assert value.item() == pytest.approx(6 * math.log(2))


def test_npo_uses_the_ratio_of_whole_sequences() -> None:
    """A hundred tokens, each at half the reference's probability: the ratio is -100 log 2.

    At beta = 0.1, sigmoid(10 log 2) = 1024 / 1025, and the loss 20 * log(1025 / 1024). A ratio
    per token would give 20 * log(1 + 2 ** -0.1) = 13.1 instead.
    """
    value = losses.npo(torch.tensor([-100 * math.log(2)]), beta=0.1)
    assert value.item() == pytest.approx(20 * math.log(1025 / 1024), rel=1e-3)


def test_npo_approaches_gradient_ascent() -> None:
    """As beta goes to 0, d loss / d log-ratio = 2 sigmoid(beta * r) goes to 1 per sequence."""
    ratio = torch.tensor([0.3, -0.2], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(losses.npo(ratio, beta=1e-8), ratio)
    torch.testing.assert_close(gradient, torch.full_like(ratio, 1 / 2))


def test_simnpo_by_hand() -> None:
    """With beta = 2 and delta = 1, NLLs of 1 and 1 + log 3 / 2 give sigmoid 1/2 and 3/4.

    The loss is (2 / 2) * (log 2 + log 4/3) / 2 = log(8/3) / 2.
    """
    value = losses.simnpo(torch.tensor([1.0, 1 + math.log(3) / 2]), beta=2, delta=1)
    assert value.item() == pytest.approx(math.log(8 / 3) / 2)


def test_kl_by_hand() -> None:
    """p_ref = (1/2, 1/2), p = (1/4, 3/4): KL(p_ref || p) = log 2 / 2 + log(2/3) / 2 = log(4/3) / 2.

    The other direction would be log(1/2) / 4 + 3 log(3/2) / 4. The second position agrees, so the
    mean over two is half; the third is padding, with an infinite divergence that must not count.
    """
    reference = logits_of([[0.5, 0.5], [0.3, 0.7], [1.0, 1e-30]])
    logits = logits_of([[0.25, 0.75], [0.3, 0.7], [1e-30, 1.0]])
    labels = torch.tensor([[0, 1, losses.IGNORE]])
    value = losses.kl(reference + 3, logits, labels)
    assert value.item() == pytest.approx(math.log(4 / 3) / 4)


def test_half_precision_logits_are_computed_upon_in_float32() -> None:
    logits = torch.randn(2, 5, 9, generator=torch.Generator().manual_seed(0))
    labels = torch.randint(9, (2, 5), generator=torch.Generator().manual_seed(0))
    half = logits.bfloat16()
    for loss in (losses.token_nll, losses.sequence_log_probs, losses.sequence_mean_nll):
        assert torch.equal(loss(half, labels), loss(half.float(), labels))
    assert torch.equal(
        losses.kl(half, half * 2, labels), losses.kl(half.float(), half.float() * 2, labels)
    )


REFERENCE = torch.randn(2, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    "loss",
    [
        losses.token_nll,
        losses.sequence_mean_nll,
        lambda logits, labels: losses.npo(losses.sequence_log_probs(logits, labels) + 5, 0.4),
        lambda logits, labels: losses.simnpo(losses.sequence_mean_nll(logits, labels), 3.0, 0.5),
        lambda logits, labels: losses.kl(REFERENCE, logits, labels),
    ],
    ids=["nll", "mean_nll", "npo", "simnpo", "kl"],
)
def test_gradients(loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 4, 5, dtype=torch.float64, generator=generator, requires_grad=True)
    labels = torch.tensor([[0, 1, 2, 3], [4, 0, 1, losses.IGNORE]])
    assert torch.autograd.gradcheck(lambda x: loss(x, labels), logits)
