"""Unlearners: a model and forget/retain text go in, the unlearned model comes out.

Importing this package loads no torch; the first use does.
"""

from ._registry import get_unlearner, list_unlearners, register_unlearner
from .base import DivergedError, Unlearner, UnlearnerError, UnlearningData

__all__ = [
    "DivergedError",
    "Unlearner",
    "UnlearnerError",
    "UnlearningData",
    "get_unlearner",
    "list_unlearners",
    "register_unlearner",
]
