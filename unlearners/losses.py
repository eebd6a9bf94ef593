"""Losses of causal language models as pure functions of logits and labels.

Shapes: ``logits`` (B, T, V) in any floating-point dtype, cast to float32; ``labels`` (B, T) int64,
the input ids with -100 at padding. ``logits[:, t]`` predicts ``labels[:, t + 1]``.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

IGNORE = -100


def token_log_probs(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Compute the log-probability of every token given the tokens before it, in nats.

    Returns:
        (B, T - 1) float32, tokens 1 to T - 1, zero at padding.
    """
    return -_cross_entropy(logits, labels, "none").view(labels.shape)[:, :-1]


def token_nll(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Compute the mean negative log-likelihood over all tokens of the batch, a scalar, in nats."""
    return _cross_entropy(logits, labels, "mean")


def sequence_log_probs(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Compute the log-probability of whole sequences, (B,) float32, in nats (sums over tokens)."""
    return token_log_probs(logits, labels).sum(1)


def sequence_mean_nll(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Compute the mean negative log-likelihood per token of each sequence, (B,) float32."""
    return -sequence_log_probs(logits, labels) / (labels[:, 1:] != IGNORE).sum(1)


def npo(log_ratio: torch.Tensor, beta: float) -> torch.Tensor:
    """Negative preference optimization (arXiv 2404.05868, Eq. 3).

    ``-(2 / beta) * mean(log sigmoid(-beta * log_ratio))``.

    Args:
        log_ratio: (B,) float32, log P_theta(y) - log P_ref(y) of whole sequences, in nats.
        beta: Inverse temperature; towards 0 the gradient becomes that of gradient ascent.

    Returns:
        A scalar.
    """
    return -2 / beta * F.logsigmoid(-beta * log_ratio).mean()


def simnpo(mean_nll: torch.Tensor, beta: float, delta: float) -> torch.Tensor:
    """Simple NPO (arXiv 2410.07163), length-normalised and without a reference.

    ``-(2 / beta) * mean(log sigmoid(beta * (mean_nll - delta)))``.

    Args:
        mean_nll: (B,) float32, negative log-likelihood per token of each sequence, in nats.
        beta: Inverse temperature.
        delta: Margin, in nats per token.

    Returns:
        A scalar.
    """
    return -2 / beta * F.logsigmoid(beta * (mean_nll - delta)).mean()


def kl(reference: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """KL(p_ref || p_theta) of the next-token distributions, the KLR loss of arXiv 2602.13151.

    Args:
        reference: (B, T, V), logits of the reference model.
        logits: (B, T, V), logits of the model in training.
        labels: (B, T) int64; positions of -100 are ignored.

    Returns:
        Mean over all other positions, a scalar, in nats.
    """
    divergence = F.kl_div(
        F.log_softmax(_upcast(logits), -1),
        F.log_softmax(_upcast(reference), -1),
        log_target=True,
        reduction="none",
    ).sum(-1)
    return divergence[labels != IGNORE].mean()


def _cross_entropy(logits: torch.Tensor, labels: torch.Tensor, reduction: str) -> torch.Tensor:
    """Compute the cross-entropy of the next token; shift the labels, since logits are larger."""
    following = F.pad(labels[:, 1:], (0, 1), value=IGNORE)
    return F.cross_entropy(
        _upcast(logits).flatten(0, 1),
        following.flatten(),
        ignore_index=IGNORE,
        reduction=reduction,
    )


def _upcast(logits: torch.Tensor) -> torch.Tensor:
    """Cast half precisions to float32; keep float64, for gradient checks."""
    return logits if logits.dtype == torch.float64 else logits.float()
