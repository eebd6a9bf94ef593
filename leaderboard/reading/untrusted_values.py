"""Strict readers of JSON and YAML from untrusted files."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

import yaml

from .untrusted_files import UnsafeError, decode, read_text, refuse_marks, short

MOST_DEPTH = 32
MOST_DIGITS = 30
MOST_STRING = 100_000
MOST_VALUES = 1_000_000


def read_json(content: bytes, *, any_text: bool = False) -> Any:
    """Read a JSON value, refusing duplicate keys, NaN and values beyond the limits.

    Args:
        content: Bytes of a file, or of a line of one.
        any_text: Allow invisible characters in strings, as in a model's answers.

    Raises:
        UnsafeError: The content is not such JSON; the message has the path of the value.
    """
    text = decode(content)
    try:
        value = json.loads(
            text,
            object_pairs_hook=_object,
            parse_constant=_refuse_constant,
            parse_int=_integer,
        )
    except RecursionError:
        raise UnsafeError("nested too deep") from None
    except json.JSONDecodeError as error:
        raise UnsafeError(f"not JSON: line {error.lineno}: {error.msg}") from error
    check_value(value, any_text=any_text)
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for key, value in pairs:
        if key in members:
            raise UnsafeError(f"duplicate key {short(key)}")
        members[key] = value
    return members


def _refuse_constant(name: str) -> NoReturn:
    raise UnsafeError(f"{name} is no number of JSON")


def _integer(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise UnsafeError(f"an integer of more than {MOST_DIGITS} digits")
    return int(digits)


def read_yaml(content: bytes, *, aliases: bool = False, any_text: bool = False) -> Any:
    """Read one YAML document of JSON's types, refusing duplicate keys.

    Args:
        content: Bytes of the file.
        aliases: Allow anchors, aliases, merges of one mapping, tags of scalars and long scalars.
        any_text: Allow invisible characters.

    Raises:
        UnsafeError: The content is not such YAML; the message has the line or the path of the
            value.
    """
    text = decode(content) if any_text else read_text(content)
    try:
        value = _Loader(text, aliases=aliases).get_single_data()
    except UnsafeError:
        raise
    except Exception as error:  # PyYAML's constructors of tags raise errors of any type
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UnsafeError(f"not YAML: {short(reason, 300)}") from error
    check_value(value, any_text=any_text)
    return value


class _Loader(yaml.SafeLoader):
    """Safe YAML loader that checks nodes before it builds values from them.

    Args:
        text: A YAML document.
        aliases: As in ``read_yaml``.
    """

    def __init__(self, text: str, *, aliases: bool) -> None:
        super().__init__(text)
        self.aliases = aliases
        self.depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        line = event.start_mark.line + 1
        if self.depth >= MOST_DEPTH:
            raise UnsafeError(f"line {line}: nested more than {MOST_DEPTH} deep")
        if not self.aliases:
            unquoted = isinstance(event, yaml.ScalarEvent) and event.implicit[0]
            if isinstance(event, yaml.AliasEvent) or event.anchor:
                raise UnsafeError(f"line {line}: anchors and aliases are not allowed")
            if event.tag or (unquoted and event.value == "<<"):
                raise UnsafeError(f"line {line}: tags are not allowed, nor merges (<<)")
            if unquoted and len(event.value) > 1000:  # resolving numbers can take quadratic time
                raise UnsafeError(f"line {line}: an unquoted value of more than 1000 characters")
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def compose_mapping_node(self, anchor: Any) -> Any:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, value in node.value:
            line = key.start_mark.line + 1
            name = (key.tag, key.value) if isinstance(key, yaml.ScalarNode) else id(key)
            if name in seen:
                raise UnsafeError(f"line {line}: duplicate key {short(str(key.value))}")
            seen.add(name)
            # merges of lists of merges would grow without bound
            if key.tag == "tag:yaml.org,2002:merge" and isinstance(value, yaml.SequenceNode):
                raise UnsafeError(f"line {line}: << takes one mapping")
        return node


def check_value(value: Any, *, any_text: bool = False) -> None:
    """Refuse values that are not of JSON's types, not finite, or too deep, long or large.

    Args:
        value: Nested dictionaries, lists and scalars.
        any_text: Allow invisible characters in strings; in keys they are always refused.

    Raises:
        UnsafeError: A value is refused; the message has its path.
    """
    count = 0
    remaining: list[tuple[str, int, Any]] = [("", 1, value)]
    while remaining:
        path, depth, item = remaining.pop()
        count += 1
        if depth > MOST_DEPTH:
            raise UnsafeError(f"{path}: nested more than {MOST_DEPTH} deep")
        if count > MOST_VALUES:
            raise UnsafeError(f"more than {MOST_VALUES} values")
        if isinstance(item, dict):
            for key, member in item.items():
                if not isinstance(key, str):
                    raise UnsafeError(f"{path}{key}: a key that is not a string")
                _check_scalar(f"{path}{short(key)}", key, any_text=False)
                remaining.append((f"{path}{short(key)}.", depth + 1, member))
        elif isinstance(item, list):
            remaining += [(f"{path}{i}.", depth + 1, member) for i, member in enumerate(item)]
        else:
            _check_scalar(path.rstrip(".") or "top level", item, any_text=any_text)


def _check_scalar(path: str, item: Any, *, any_text: bool) -> None:
    if not isinstance(item, str | int | float | None):
        raise UnsafeError(f"{path}: a value of type {type(item).__name__}")
    if isinstance(item, float) and not math.isfinite(item):
        raise UnsafeError(f"{path}: {item} is not finite")
    if isinstance(item, int) and item.bit_length() > 100:
        raise UnsafeError(f"{path}: an integer of more than {MOST_DIGITS} digits")
    if isinstance(item, str):
        if len(item) > MOST_STRING:
            raise UnsafeError(f"{path}: a string of more than {MOST_STRING} characters")
        try:
            if any_text:
                item.encode()  # refuses lone surrogates
            else:
                refuse_marks(item)
        except (UnsafeError, UnicodeEncodeError) as error:
            raise UnsafeError(f"{path}: {error}") from error
