"""The command line: ``lm-eval-muse``."""

from .app import app, main

__all__ = ["app", "main"]
