"""Rules for the values of a configuration, and one line for the first that breaks one."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from .errors import UnlearnerError

# A predicate and how to say what it wants.
Rule = tuple[Callable[[Any], bool], str]


def _count(value: Any) -> bool:
    return isinstance(value, int) and value >= 1


COUNT: Rule = (_count, "an integer of at least 1")
COUNT_OR_NONE: Rule = (lambda v: v is None or _count(v), "an integer of at least 1, or None")
POSITIVE: Rule = (lambda v: 0 < v < math.inf, "a number above 0")
NOT_NEGATIVE: Rule = (lambda v: v >= 0, "a number of at least 0")
SHARE: Rule = (lambda v: 0 <= v < 1, "a number from 0 to below 1")


def one_of(*values: Any) -> Rule:
    """The rule that a value is among these."""
    return (lambda v: v in values, f"one of {', '.join(map(str, values))}")


def check(config: Any, rules: Mapping[str, Rule], whose: str = "") -> None:
    """Check the attributes of ``config`` that have a rule.

    Raises:
        UnlearnerError: the first that breaks its rule; the message begins with ``whose``.
    """
    for name, (valid, expected) in rules.items():
        value = getattr(config, name)
        try:
            passed = valid(value)
        except TypeError:  # a text, for example: YAML reads 1e-5 as one
            passed = False
        if not passed:
            raise UnlearnerError(f"{whose}{name}={value!r}: expected {expected}")
