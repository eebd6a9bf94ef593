"""Strict readers of JSON and YAML that a stranger has written."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

import yaml

from .untrusted_files import (
    Unsafe,
    read_text,
    refuse_marks,
    short,
)

MOST_DEPTH = 32
MOST_DIGITS = 30
MOST_STRING = 100_000
MOST_VALUES = 1_000_000


def read_json(content: bytes, *, any_text: bool = False) -> Any:
    """Read a JSON value without repeated keys, NaN, or anything beyond the limits.

    Args:
        content: bytes of a file, or of a line of one.
        any_text: allow any character in strings, as for a model's answers.

    Raises:
        Unsafe: another value; the message names the place in it.
    """
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Unsafe(f"not UTF-8: byte {error.start}: {error.reason}") from error
    try:
        value = json.loads(
            text,
            object_pairs_hook=_object,
            parse_constant=_refuse_constant,
            parse_int=_integer,
        )
    except RecursionError:
        raise Unsafe("nested too deep") from None
    except json.JSONDecodeError as error:
        raise Unsafe(f"not JSON: line {error.lineno}: {error.msg}") from error
    check_value(value, any_text=any_text)
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise Unsafe(f"the key {short(key)} is given twice")
        found[key] = value
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise Unsafe(f"{name} is no number of JSON")


def _integer(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise Unsafe(f"an integer of more than {MOST_DIGITS} digits")
    return int(digits)


def check_value(value: Any, *, any_text: bool = False) -> None:
    """Refuse values that are not of JSON's types, not finite, or too deep, long or large.

    Raises:
        Unsafe: naming the place.
    """
    seen = 0
    waiting: list[tuple[str, int, Any]] = [("", 1, value)]
    while waiting:
        place, depth, item = waiting.pop()
        seen += 1
        if depth > MOST_DEPTH:
            raise Unsafe(f"{place}: nested more than {MOST_DEPTH} deep")
        if seen > MOST_VALUES:
            raise Unsafe(f"more than {MOST_VALUES} values")
        if isinstance(item, dict):
            for key, member in item.items():
                if not isinstance(key, str):
                    raise Unsafe(f"{place}{key}: a key that is no text")
                _check_scalar(f"{place}{short(key)}", key, any_text=False)
                waiting.append((f"{place}{short(key)}.", depth + 1, member))
        elif isinstance(item, list):
            waiting += [(f"{place}{i}.", depth + 1, member) for i, member in enumerate(item)]
        else:
            _check_scalar(place.rstrip(".") or "top level", item, any_text=any_text)


def _check_scalar(place: str, item: Any, *, any_text: bool) -> None:
    if not isinstance(item, str | int | float | None):
        raise Unsafe(f"{place}: a value of type {type(item).__name__}")
    if isinstance(item, float) and not math.isfinite(item):
        raise Unsafe(f"{place}: {item} is not finite")
    if isinstance(item, int) and item.bit_length() > 100:
        raise Unsafe(f"{place}: an integer of more than {MOST_DIGITS} digits")
    if isinstance(item, str):
        if len(item) > MOST_STRING:
            raise Unsafe(f"{place}: a string of more than {MOST_STRING} characters")
        try:
            if any_text:
                item.encode()  # half a surrogate pair is no text
            else:
                refuse_marks(item)
        except (Unsafe, UnicodeEncodeError) as error:
            raise Unsafe(f"{place}: {error}") from error


class _StrictLoader(yaml.SafeLoader):
    """Safe YAML loader that refuses repeated keys."""

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        found = super().construct_mapping(node, deep=True)
        if len(found) < len(node.value):
            raise Unsafe(f"line {node.start_mark.line + 1}: a key is given twice")
        return found


def read_yaml(content: bytes) -> Any:
    """Read one YAML document of plain types, without anchors, aliases, tags or repeated keys.

    Raises:
        Unsafe: another value.
    """
    text = read_text(content)
    try:
        _check_events(text)
        value = yaml.load(text, Loader=_StrictLoader)
    except yaml.YAMLError as error:
        raise Unsafe(f"not YAML: {short(' '.join(str(error).split()), 300)}") from error
    except (ValueError, RecursionError, TypeError) as error:
        if isinstance(error, Unsafe):
            raise
        raise Unsafe(f"not YAML: {short(str(error), 300)}") from error
    check_value(value)
    return value


def _check_events(text: str) -> None:
    """Check the parser's events before any value is built from them."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        line = event.start_mark.line + 1 if event.start_mark else 0
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise Unsafe(f"line {line}: anchors and aliases are not allowed")
        if getattr(event, "tag", None):
            raise Unsafe(f"line {line}: tags are not allowed")
        if isinstance(event, yaml.ScalarEvent) and event.implicit[0] and len(event.value) > 1000:
            raise Unsafe(f"line {line}: an unquoted value of more than 1000 characters")
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > MOST_DEPTH:
            raise Unsafe(f"line {line}: nested more than {MOST_DEPTH} deep")
