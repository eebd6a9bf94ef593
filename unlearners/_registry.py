"""Unlearners by name: the built-in ones and those of installed packages."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Callable
from functools import cache, partial
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, TypeVar

from lm_eval.api.registry import Registry
from pydantic import TypeAdapter, ValidationError

from .base import Unlearner, UnlearnerError

ENTRY_POINT_GROUP = "lm_eval_muse.unlearners"
U = TypeVar("U", bound=type[Unlearner])

registry: Registry[Callable[..., Unlearner]] = Registry("unlearner")


def register_unlearner(name: str, **preset: Any) -> Callable[[U], U]:
    """Class decorator: make an unlearner available as ``name``, with preset parameters.

    Stack it to give one class several names (``npo``, ``npo_gdr``).
    """

    def decorate(cls: U) -> U:
        registry.register(name, target=partial(cls, **preset))
        return cls

    return decorate


@cache
def _discover() -> dict[str, str]:
    """Import built-ins and entry points once; return the distribution of every name."""
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        importlib.import_module(f".{module.name}", __package__)
    distributions = dict.fromkeys(registry, "lm-eval-muse")
    for point in entry_points(group=ENTRY_POINT_GROUP):
        owner = point.dist.name if point.dist else point.value
        if point.name in distributions:
            raise UnlearnerError(
                f"unlearner '{point.name}' of distribution {owner} is already registered by "
                f"{distributions[point.name]}; uninstall one of them"
            )
        try:
            target = point.load()
        except Exception as error:
            raise UnlearnerError(
                f"unlearner '{point.name}' of distribution {owner} cannot be loaded: {error!r}"
            ) from error
        if point.name not in registry:  # its module may have used the decorator itself
            registry.register(point.name, target=partial(target))
        distributions[point.name] = owner
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
    cls, preset = factory.func, factory.keywords  # type: ignore[attr-defined]
    try:
        return TypeAdapter(cls).validate_python({**preset, **params})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise UnlearnerError(
            f"unlearner '{name}': {where + ': ' if where else ''}{first['msg']}"
        ) from error
