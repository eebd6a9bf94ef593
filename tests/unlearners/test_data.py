"""Batches with and without retain windows, and text without a retain set."""

import dataclasses

import pytest
import torch

from unlearners import Batch, UnlearnerError, UnlearningData, Windows
from unlearners.data import Side


def windows(side: Side) -> Windows:
    return Windows(torch.tensor([[1, 2]]), torch.tensor([0]), side)


def test_retain_windows_are_those_paired() -> None:
    paired = windows("retain")
    assert Batch(windows("forget"), paired).retain is paired


def test_a_batch_without_retain_windows() -> None:
    with pytest.raises(
        UnlearnerError, match=r"^the loss reads retain windows: declare 'retain' in needs$"
    ):
        _ = Batch(windows("forget")).retain


def test_retain_text_is_optional_and_text_is_fixed() -> None:
    data = UnlearningData(forget=["one", ("question", "answer")])
    assert data.retain == ()
    with pytest.raises(dataclasses.FrozenInstanceError):
        data.forget = []  # type: ignore[misc]
