"""A checksum inside a JSON file, so that a file damaged later is not taken for what was written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

SEAL = "sha256"
"""The key of an object that holds the digest of everything beside it."""


def digest(content: Mapping[str, Any]) -> str:
    """SHA-256 of an object as canonical JSON, without its seal.

    Canonical: keys sorted, no white space, ASCII, and numbers as Python writes them, so that how a
    file is laid out does not matter and every value in it does.

    Args:
        content: as ``json.loads`` gives it.
    """
    rest = {key: value for key, value in content.items() if key != SEAL}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """The object with its digest in it."""
    return {**content, SEAL: digest(content)}


def is_damaged(content: Mapping[str, Any]) -> bool:
    """Whether there is a digest, and it is not that of the rest."""
    return content.get(SEAL) is not None and content[SEAL] != digest(content)
