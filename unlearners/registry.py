"""Unlearners by name: the built-in ones and those of installed packages."""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import pkgutil
import re
from collections.abc import Callable
from functools import cache, partial
from importlib.metadata import entry_points
from typing import Any, TypeVar

from lm_eval.api.registry import Registry
from pydantic import TypeAdapter, ValidationError

from . import methods
from .base import Unlearner
from .errors import UnlearnerError

NAME = re.compile(r"[a-z0-9][a-z0-9_.-]*")
ENTRY_POINT_GROUP = "lm_eval_muse.unlearners"
DISTRIBUTION = "lm-eval-muse"
U = TypeVar("U", bound=type[Unlearner])

# Name to class with its preset parameters.
registry: Registry[partial[Unlearner]] = Registry("unlearner")


def register_unlearner(name: str, **preset: Any) -> Callable[[U], U]:
    """Class decorator: make an unlearner available as ``name``, with fixed parameters.

    Stack it to give one class several names (``npo``, ``npo_gdr``).

    Raises:
        UnlearnerError: the name is taken, or cannot stand in a file's name.
    """
    if not NAME.fullmatch(name):
        raise UnlearnerError(
            f"unlearner name {name!r}: use small letters, digits, '_', '.' and '-' (records are "
            "named by it)"
        )

    def decorate(cls: U) -> U:
        if name in registry:
            raise UnlearnerError(
                f"unlearner '{name}' of {cls.__module__} is already registered by "
                f"{registry.get(name).func.__module__}; give it another name"
            )
        registry.register(name, target=partial(cls, **preset))
        return cls

    return decorate


@cache
def _discover() -> dict[str, str]:
    """Import built-ins and entry points once; return the distribution of every name."""
    for module in pkgutil.iter_modules(methods.__path__):
        if not module.name.startswith("_"):
            importlib.import_module(f"{methods.__name__}.{module.name}")
    distributions = {
        name: DISTRIBUTION
        for name in registry
        if registry.get(name).func.__module__.startswith(f"{__package__}.")
    }
    for point in entry_points(group=ENTRY_POINT_GROUP):
        owner = point.dist.name if point.dist else point.value
        if point.name in distributions:
            raise UnlearnerError(
                f"unlearner '{point.name}' of distribution {owner} is already registered by "
                f"distribution {distributions[point.name]}; uninstall one of them"
            )
        distributions[point.name] = owner
        try:
            target = point.load()
        except Exception as error:
            raise UnlearnerError(
                f"unlearner '{point.name}' of distribution {owner} cannot be loaded: {error!r}"
            ) from error
        if not (isinstance(target, type) and issubclass(target, Unlearner)):
            raise UnlearnerError(
                f"unlearner '{point.name}' of distribution {owner} is {point.value}, which is no "
                "subclass of unlearners.Unlearner"
            )
        if point.name not in registry:  # its module may have used the decorator itself
            register_unlearner(point.name)(target)
    return distributions


def list_unlearners() -> dict[str, str]:
    """Every registered name and the distribution it comes from (``local`` for a loaded file)."""
    distributions = _discover()
    return {name: distributions.get(name, "local") for name in sorted(registry)}


def get_unlearner(name: str, **params: Any) -> Unlearner:
    """Build the unlearner ``name`` with the given parameters.

    Raises:
        UnlearnerError: an unknown name (with the nearest ones) or a bad parameter.
    """
    _discover()
    if name not in registry:
        near = difflib.get_close_matches(name, registry, n=3)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise UnlearnerError(
            f"unknown unlearner '{name}': {hint}available: {', '.join(sorted(registry))}"
        )
    factory = registry.get(name)
    cls, preset = factory.func, factory.keywords
    known = [field.name for field in dataclasses.fields(cls)]
    for param, value in params.items():
        if param not in known:
            free = ", ".join(param for param in known if param not in preset)
            raise UnlearnerError(
                f"unlearner '{name}' has no parameter '{param}': available: {free or 'none'}"
            )
        if value != preset.get(param, value):
            raise UnlearnerError(
                f"unlearner '{name}': {param}={value!r} is not possible, the name means "
                f"{preset[param]!r}"
            )
    try:
        return TypeAdapter(cls).validate_python({**preset, **params})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        if first["type"] == "value_error":  # what __post_init__ has raised
            raise UnlearnerError(f"unlearner '{name}': {first['ctx']['error']}") from error
        where = ".".join(map(str, first["loc"]))
        raise UnlearnerError(
            f"unlearner '{name}': {where}={first['input']!r}: {first['msg']}"
        ) from error
