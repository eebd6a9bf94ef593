"""Quantizers by name: the built-in ones and those of installed packages."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

from .base import Quantizer
from .errors import QuantizerError
from .plugin_registry import PluginRegistry

ENTRY_POINT_GROUP = "lm_eval_muse.quantizers"
Q = TypeVar("Q", bound=type[Quantizer])


def _require_bits(name: str, cls: type[Quantizer]) -> None:
    """Refuse a class without ``bits``; a field without a default is no attribute of the class."""
    if not hasattr(cls, "bits") and all(field.name != "bits" for field in dataclasses.fields(cls)):
        raise QuantizerError(
            f"quantizer '{name}': {cls.__name__} does not say how many bits its weights have; add "
            "`bits: ClassVar[float | None] = 4` (None if it does not quantize), a field or a "
            "property of that name"
        )


registry: PluginRegistry[Quantizer] = PluginRegistry(
    "quantizer",
    Quantizer,
    "quantizers.methods",
    group=ENTRY_POINT_GROUP,
    error_class=QuantizerError,
    check=_require_bits,
)


def register_quantizer(name: str, **preset: Any) -> Callable[[Q], Q]:
    """Register the decorated class as ``name``, with fixed parameters.

    Stack the decorator to give one class several names (``rtn-int8``, ``rtn-int4``).

    Args:
        name: Small letters, digits, ``_``, ``.`` and ``-``.
        **preset: Values of the parameters that the name fixes.

    Raises:
        QuantizerError: The name is taken or cannot be a part of a file name, or the class has no
            ``bits``.
    """
    registry.check_name(name)

    def decorate(cls: Q) -> Q:
        registry.register(name, cls, preset)
        return cls

    return decorate


def list_quantizers() -> dict[str, str]:
    """List every registered name and its distribution (``local`` for a class of a loaded file)."""
    return registry.distributions()


def get_quantizer(name: str, **params: Any) -> Quantizer:
    """Build the quantizer ``name`` with the given parameters.

    Args:
        name: Registered name.
        **params: Parameters of its class.

    Raises:
        QuantizerError: An unknown name (with the nearest ones), an unknown, missing or bad
            parameter, or one that contradicts the name (``rtn-int4`` with ``bits=8``).
    """
    return registry.build(name, params)


def quantizer_name(quantizer: Quantizer) -> str:
    """Return the registered name under which `get_quantizer` builds this quantizer.

    Raises:
        QuantizerError: Its class is not registered with such parameters.
    """
    values = quantizer.to_dict()
    for name, entry in registry.entries().items():
        if entry.cls is type(quantizer) and entry.preset.items() <= values.items():
            return name
    raise QuantizerError(f"{quantizer!r} is not registered under any name")
