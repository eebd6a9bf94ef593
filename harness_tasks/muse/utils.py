"""What the YAMLs refer to. lm-eval loads this file by its path, so it holds no state."""

from harness_tasks.tasks import (
    KnowMem,
    PrivLeak,
    VerbMem,
    auc,
    auc_stderr,
    privleak,
    privleak_stderr,
)

__all__ = ["KnowMem", "PrivLeak", "VerbMem", "auc", "auc_stderr", "privleak", "privleak_stderr"]
