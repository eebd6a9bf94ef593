"""Training settings: limits, and a way there and back."""

import pytest

from unlearners import TrainingSettings, UnlearnerError


def test_there_and_back() -> None:
    settings = TrainingSettings(learning_rate=1e-4, max_steps=3, save_steps=None)
    assert TrainingSettings(**settings.to_dict()) == settings


@pytest.mark.parametrize(
    "wrong",
    [
        {"learning_rate": 0},
        {"learning_rate": float("inf")},
        {"epochs": 0},
        {"batch_size": 0},
        {"window": 1.5},
        {"warmup_ratio": 1.5},
        {"mixed_precision": "fp8"},
        {"weights_dtype": "int8"},
    ],
)
def test_limits(wrong: dict[str, object]) -> None:
    (name,) = wrong
    with pytest.raises(UnlearnerError, match=rf"^{name}="):
        TrainingSettings(**wrong)  # type: ignore[arg-type]
