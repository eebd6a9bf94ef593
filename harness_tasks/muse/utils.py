"""Classes and functions for the YAML files; lm-eval loads this module by its path."""

from harness_tasks.tasks.base import Generation, Memorization, VerbMem
from harness_tasks.tasks.membership import Attacks, PrivLeak
from harness_tasks.tasks.privleak import auc, auc_stderr, privleak, privleak_stderr

__all__ = [
    "Attacks",
    "Generation",
    "Memorization",
    "PrivLeak",
    "VerbMem",
    "auc",
    "auc_stderr",
    "privleak",
    "privleak_stderr",
]
