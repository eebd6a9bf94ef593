"""Unlearners: a model and forget/retain text go in, the unlearned model comes out.

These names are all that an author of a method imports, besides `unlearners.losses`. Importing
this package does not load torch.
"""

from .base import Unlearner
from .data import Batch, Document, UnlearningData, Windows
from .errors import DivergedError, UnlearnerError
from .finetuning import Finetuning, FullFinetuning, LoRA, get_finetuning
from .method import Need, Objective
from .reference import Reference
from .registry import get_unlearner, list_unlearners, register_unlearner
from .training import TrainingSettings

__all__ = [
    "Batch",
    "DivergedError",
    "Document",
    "Finetuning",
    "FullFinetuning",
    "LoRA",
    "Need",
    "Objective",
    "Reference",
    "TrainingSettings",
    "Unlearner",
    "UnlearnerError",
    "UnlearningData",
    "Windows",
    "get_finetuning",
    "get_unlearner",
    "list_unlearners",
    "register_unlearner",
]
