"""Recipe of a checkpoint: method, finetuning and training settings."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from pydantic import TypeAdapter, ValidationError

from unlearners import Unlearner
from unlearners.finetuning import Finetuning
from unlearners.training import TrainingSettings

from ..errors import InputError


@dataclass(frozen=True)
class Recipe:
    """How a checkpoint is made from the target model."""

    unlearner: Unlearner
    finetuning: Finetuning
    settings: TrainingSettings


def training_settings(where: str, values: dict[str, Any]) -> TrainingSettings:
    """Check the values of a training.

    Raises:
        InputError: an unknown setting or a wrong value; ``where`` says where it stands.
    """
    known = [setting.name for setting in fields(TrainingSettings)]
    for name in values:
        if name not in known:
            raise InputError(f"{where}: unknown setting '{name}': available: {', '.join(known)}")
    try:
        return TypeAdapter(TrainingSettings).validate_python(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        path = ".".join(map(str, (where, *first["loc"])))
        raise InputError(f"{path}: {first['msg'].removeprefix('Value error, ')}") from error
