"""Settings of LoRA: limits, and one form of each value."""

import pytest

from unlearners import LoRA, UnlearnerError, get_finetuning


def test_one_setting_has_one_form() -> None:
    """32 and 32.0 are one setting, and so are a list and a tuple: records are named by it."""
    settings = LoRA(alpha=32.0, targets=["q_proj"])  # type: ignore[arg-type]
    assert settings.to_dict() == {
        "rank": 16,
        "alpha": 32,
        "dropout": 0.05,
        "targets": ["q_proj"],
    }
    assert isinstance(settings.alpha, int)
    assert get_finetuning("lora", **settings.to_dict()) == settings


@pytest.mark.parametrize(
    "wrong", [{"rank": 0}, {"alpha": 0}, {"dropout": 1}, {"dropout": -0.1}, {"targets": []}]
)
def test_limits(wrong: dict[str, object]) -> None:
    (name,) = wrong
    with pytest.raises(UnlearnerError, match=f"{name}="):
        LoRA(**wrong)  # type: ignore[arg-type]
