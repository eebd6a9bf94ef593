"""Training settings of a configuration."""

import pytest

from leaderboard.errors import InputError
from leaderboard.training.recipe import training_settings
from unlearners import TrainingSettings


def test_values_are_converted() -> None:
    """YAML reads 1e-5 as a text."""
    found = training_settings("training", {"learning_rate": "1e-5", "epochs": 2})
    assert found == TrainingSettings(learning_rate=1e-5, epochs=2)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epoch": 2}, r"^run\.training: unknown setting 'epoch': available: .*epochs"),
        ({"epochs": 0}, r"^run\.training\.epochs"),
        ({"learning_rate": "fast"}, r"^run\.training\.learning_rate"),
    ],
)
def test_wrong_setting_is_named(values: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        training_settings("run.training", values)
