"""Classes and functions that the YAMLs refer to.

lm-eval loads this file by its path, so it holds no state.
"""

from harness_tasks.membership import Attacks, PrivLeak
from harness_tasks.privleak import auc, auc_stderr, privleak, privleak_stderr
from harness_tasks.tasks import Generation, Memorization, VerbMem

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
