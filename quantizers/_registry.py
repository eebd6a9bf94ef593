"""Quantizers by name: the built-in ones and those of installed packages."""

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

from .base import Quantizer, QuantizerError

ENTRY_POINT_GROUP = "lm_eval_muse.quantizers"
Q = TypeVar("Q", bound=type[Quantizer])

registry: Registry[Callable[..., Quantizer]] = Registry("quantizer")


def register_quantizer(name: str, **preset: Any) -> Callable[[Q], Q]:
    """Class decorator: make a quantizer available as ``name``, with preset parameters.

    Stack it to give one class several names (``rtn-int8``, ``rtn-int4``).
    """

    def decorate(cls: Q) -> Q:
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
            raise QuantizerError(
                f"quantizer '{point.name}' of distribution {owner} is already registered by "
                f"{distributions[point.name]}; uninstall one of them"
            )
        try:
            target = point.load()
        except Exception as error:
            raise QuantizerError(
                f"quantizer '{point.name}' of distribution {owner} cannot be loaded: {error!r}"
            ) from error
        if point.name not in registry:  # its module may have used the decorator itself
            registry.register(point.name, target=partial(target))
        distributions[point.name] = owner
    return distributions


def list_quantizers() -> dict[str, str]:
    """Every registered name and the distribution it comes from (``local`` for a loaded file)."""
    distributions = _discover()
    return {name: distributions.get(name, "local") for name in sorted(registry)}


def get_quantizer(name: str, **params: Any) -> Quantizer:
    """Build the quantizer ``name`` with the given parameters.

    Raises:
        QuantizerError: an unknown name (with the nearest ones) or a bad parameter.
    """
    _discover()
    if name not in registry:
        near = difflib.get_close_matches(name, registry, n=3)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise QuantizerError(
            f"unknown quantizer '{name}': {hint}available: {', '.join(sorted(registry))}"
        )
    factory = registry.get(name)
    cls, preset = factory.func, factory.keywords  # type: ignore[attr-defined]
    try:
        return TypeAdapter(cls).validate_python({**preset, **params})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise QuantizerError(
            f"quantizer '{name}': {where + ': ' if where else ''}{first['msg']}"
        ) from error
