"""Errors of quantizers and of loading models: one line for the user each."""

from __future__ import annotations


class QuantizerError(ValueError):
    """A quantizer was named, configured or used wrongly."""


class ModelError(ValueError):
    """A model cannot be loaded or saved as it is."""
