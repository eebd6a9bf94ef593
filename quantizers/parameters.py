"""Validation of a configuration's fields by their annotations."""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError


def validate_fields(config: Any, error_class: type[ValueError]) -> None:
    """Validate and convert every field of a dataclass by its annotation, in place.

    Called from ``__post_init__``, so that a configuration that is built directly is checked like
    one that is built by name.

    Args:
        config: Instance of a dataclass, frozen or not. Its annotations are pydantic's:
            ``Annotated[float, Field(gt=0)]``, ``Literal["a", "b"]``.
        error_class: Class of the error to raise.

    Raises:
        ValueError: The first field with a bad value, as an ``error_class``.
    """
    cls: Any = type(config)
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        try:
            _adapter(cls).validator.validate_assignment(config, field.name, value)
        except ValidationError as error:
            reasons = " or ".join(dict.fromkeys(entry["msg"] for entry in error.errors()))
            raise error_class(f"{field.name}={value!r}: {reasons}") from error


@cache
def _adapter(cls: type[Any]) -> TypeAdapter[Any]:
    return TypeAdapter(cls)
