"""The command line: ``lm-eval-muse``."""

from .entry import app, main

__all__ = ["app", "main"]
