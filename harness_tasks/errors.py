"""Errors of the tasks: one line for the user each."""

from __future__ import annotations


class CorpusError(ValueError):
    """A corpus is missing, incomplete or malformed."""


class RequestError(ValueError):
    """A model cannot serve a request of MUSE."""
