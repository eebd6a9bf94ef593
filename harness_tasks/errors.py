"""Errors of the tasks, each with a message of one line."""

from __future__ import annotations


class CorpusError(ValueError):
    """A corpus is missing, incomplete or malformed."""


class RequestError(ValueError):
    """A model cannot answer a request of MUSE."""
