"""Recipe of a checkpoint: method, finetuning and training settings."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from unlearners import Unlearner, UnlearnerError
from unlearners.finetuning import Finetuning
from unlearners.training import TrainingSettings

from ..errors import InputError


@dataclass(frozen=True)
class Recipe:
    """Recipe by which a checkpoint is made from the target model.

    Attributes:
        unlearner: The method.
        finetuning: The weights that are trained.
        settings: Training settings.
    """

    unlearner: Unlearner
    finetuning: Finetuning
    settings: TrainingSettings


def training_settings(where: str, values: dict[str, Any]) -> TrainingSettings:
    """Validate training settings.

    Args:
        where: Path of the settings in the configuration, for messages.
        values: Settings by name.

    Raises:
        InputError: A setting is unknown, or its value is wrong.
    """
    known = [setting.name for setting in fields(TrainingSettings)]
    for name in values:
        if name not in known:
            raise InputError(f"{where}: unknown setting '{name}': available: {', '.join(known)}")
    try:
        return TrainingSettings(**values)
    except UnlearnerError as error:
        raise InputError(f"{where}.{error}") from error
