"""Unlearners: a model and forget/retain text go in, the unlearned model comes out.

Importing this package loads no torch; the first use does.
"""

from .base import Unlearner
from .data import UnlearningData
from .errors import DivergedError, UnlearnerError
from .registry import get_unlearner, list_unlearners, register_unlearner

__all__ = [
    "DivergedError",
    "Unlearner",
    "UnlearnerError",
    "UnlearningData",
    "get_unlearner",
    "list_unlearners",
    "register_unlearner",
]
