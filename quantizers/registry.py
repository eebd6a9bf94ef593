"""Quantizers by name: the built-in ones and those of installed packages."""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import pkgutil
import re
from collections.abc import Callable, Mapping
from functools import cache, partial
from importlib.metadata import entry_points
from typing import Any, TypeVar

from lm_eval.api.registry import Registry
from pydantic import TypeAdapter, ValidationError

from . import methods
from .base import Quantizer
from .errors import QuantizerError

NAME = re.compile(r"[a-z0-9][a-z0-9_.-]*")
ENTRY_POINT_GROUP = "lm_eval_muse.quantizers"
Q = TypeVar("Q", bound=type[Quantizer])

registry: Registry[Callable[..., Quantizer]] = Registry("quantizer")


def register_quantizer(name: str, **preset: Any) -> Callable[[Q], Q]:
    """Class decorator: make a quantizer available as ``name``, with preset parameters.

    Stack it to give one class several names (``rtn-int8``, ``rtn-int4``).

    Raises:
        QuantizerError: the name is taken or cannot stand in a file's name, or the class does not
            say how many ``bits`` its weights have.
    """
    if not NAME.fullmatch(name):
        raise QuantizerError(
            f"quantizer name {name!r}: use small letters, digits, '_', '.' and '-' (records are "
            "named by it)"
        )

    def decorate(cls: Q) -> Q:
        if name in registry:
            owner = _factory(name)[0]
            raise QuantizerError(
                f"quantizer '{name}' of {cls.__module__} is already registered by "
                f"{owner.__module__}; choose another name"
            )
        _require_bits(name, cls)
        registry.register(name, target=partial(cls, **preset))
        return cls

    return decorate


@cache
def _discover() -> dict[str, str]:
    """Import built-ins and entry points once; return the distribution of every name."""
    for module in pkgutil.iter_modules(methods.__path__):
        importlib.import_module(f"{methods.__name__}.{module.name}")
    distributions = {
        name: "lm-eval-muse"
        for name in registry
        if _factory(name)[0].__module__.startswith(f"{__package__}.")
    }
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
            if not (isinstance(target, type) and issubclass(target, Quantizer)):
                raise QuantizerError(
                    f"quantizer '{point.name}' of distribution {owner} is {target!r}; the entry "
                    "point must name a subclass of quantizers.Quantizer"
                )
            _require_bits(point.name, target)
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
        QuantizerError: an unknown name (with the nearest ones), an unknown or bad parameter, or
            one that contradicts the name (``rtn-int4`` with ``bits=8``).
    """
    _discover()
    if name not in registry:
        near = difflib.get_close_matches(name, registry, n=3)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise QuantizerError(
            f"unknown quantizer '{name}': {hint}available: {', '.join(sorted(registry))}"
        )
    cls, preset = _factory(name)
    fields = [field.name for field in dataclasses.fields(cls)]
    for param, value in params.items():
        if param not in fields:
            raise QuantizerError(
                f"quantizer '{name}' has no parameter '{param}'; "
                f"it takes {', '.join(fields) or 'none'}"
            )
        if param in preset and value != preset[param]:
            raise QuantizerError(
                f"quantizer '{name}' means {param}={preset[param]!r}, not {value!r}; "
                "choose the quantizer of that name"
            )
    try:
        return TypeAdapter(cls).validate_python({**preset, **params})
    except ValidationError as error:
        raise QuantizerError(f"quantizer '{name}': {_explain(error)}") from error


def quantizer_name(quantizer: Quantizer) -> str:
    """The registered name under which `get_quantizer` gives this quantizer.

    Raises:
        QuantizerError: its class is not registered with such parameters.
    """
    _discover()
    values = quantizer.to_dict()
    for name in sorted(registry):
        cls, preset = _factory(name)
        if cls is type(quantizer) and preset.items() <= values.items():
            return name
    raise QuantizerError(f"{quantizer!r} is not registered under any name")


def _factory(name: str) -> tuple[type[Quantizer], Mapping[str, Any]]:
    """The class registered as ``name`` and its preset parameters."""
    factory = registry.get(name)
    return factory.func, factory.keywords


def _require_bits(name: str, cls: type[Quantizer]) -> None:
    """Refuse a class without ``bits``; a field without a default is no attribute of the class."""
    if not hasattr(cls, "bits") and all(field.name != "bits" for field in dataclasses.fields(cls)):
        raise QuantizerError(
            f"quantizer '{name}': {cls.__name__} does not say how many bits its weights have; add "
            "`bits: ClassVar[float | None] = 4` (None if it does not quantize), a field or a "
            "property of that name"
        )


def _explain(error: ValidationError) -> str:
    """The first bad parameter with all that was said about it, in one line."""
    errors = error.errors(include_url=False)
    if not errors[0]["loc"]:  # raised by __post_init__
        return str(errors[0].get("ctx", {}).get("error", errors[0]["msg"]))
    param = errors[0]["loc"][0]
    reasons = " or ".join(e["msg"] for e in errors if e["loc"][0] == param)
    return f"{param}={errors[0]['input']!r}: {reasons}"
