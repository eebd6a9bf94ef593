"""Errors of quantizers and of loading models; each message is one line."""

from __future__ import annotations


class QuantizerError(ValueError):
    """Error in the name, the configuration or the use of a quantizer."""


class ModelError(ValueError):
    """Error in loading or saving a model."""
