"""Unlearners by name: the built-in ones and those of installed packages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from quantizers.plugin_registry import PluginRegistry

from .base import Unlearner
from .errors import UnlearnerError

ENTRY_POINT_GROUP = "lm_eval_muse.unlearners"
U = TypeVar("U", bound=type[Unlearner])

registry: PluginRegistry[Unlearner] = PluginRegistry(
    "unlearner",
    Unlearner,
    "unlearners.methods",
    group=ENTRY_POINT_GROUP,
    error_class=UnlearnerError,
)


def register_unlearner(name: str, **preset: Any) -> Callable[[U], U]:
    """Register the decorated class as ``name``, with fixed parameters.

    Stack the decorator to give one class several names (``npo``, ``npo_gdr``).

    Args:
        name: Small letters, digits, ``_``, ``.`` and ``-``.
        **preset: Values of the parameters that the name fixes.

    Raises:
        UnlearnerError: The name is taken, or cannot be a part of a file name.
    """
    registry.check_name(name)

    def decorate(cls: U) -> U:
        registry.register(name, cls, preset)
        return cls

    return decorate


def list_unlearners() -> dict[str, str]:
    """List every registered name and its distribution (``local`` for a class of a loaded file)."""
    return registry.distributions()


def get_unlearner(name: str, **params: Any) -> Unlearner:
    """Build the unlearner ``name`` with the given parameters.

    Args:
        name: Registered name.
        **params: Parameters of its class.

    Raises:
        UnlearnerError: An unknown name (with the nearest ones), an unknown, missing or bad
            parameter, or one that contradicts the name (``npo_gdr`` with ``retain="klr"``).
    """
    return registry.build(name, params)
