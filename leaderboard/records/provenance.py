"""Provenance of a record: machine and versions."""

from __future__ import annotations

import platform
import resource
import subprocess
import sys
from datetime import datetime, timezone
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from unlearners.facts import TrainingFacts

from .schema import Provenance, Seconds

PACKAGES = (
    "lm-eval-muse",
    "lm_eval",
    "torch",
    "transformers",
    "peft",
    "accelerate",
    "optimum-quanto",
    "bitsandbytes",
    "llmcompressor",
    "compressed-tensors",
    "rouge-score",
    "scikit-learn",
    "datasets",
)


def provenance(
    device: str,
    *,
    seconds: Seconds | None = None,
    tasks: dict[str, str] | None = None,
    batch_size: int | None = None,
    retrain_auc: float | None = None,
    retrain_auc_stderr: float | None = None,
    training: TrainingFacts | None = None,
) -> Provenance:
    """Describe this process, now.

    Args:
        device: Torch device that evaluated.
        seconds: Wall times of the cell's parts.
        tasks: Versions of the tasks.
        batch_size: Batch size of the evaluation.
        retrain_auc: Zero of PrivLeak.
        retrain_auc_stderr: Standard error of that AUC.
        training: Facts about the training.
    """
    import torch

    from unlearners.onednn import is_enabled

    on_gpu = device.startswith("cuda")

    # kibibytes on Linux, bytes on macOS
    unit = 1024 if sys.platform == "darwin" else 1
    return Provenance(
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        packages=_packages(),
        python=platform.python_version(),
        platform=platform.platform(),
        device=torch.cuda.get_device_name(device) if on_gpu else device,
        cuda=torch.version.cuda if on_gpu else None,
        threads=torch.get_num_threads(),
        onednn=None if on_gpu else is_enabled(),
        git=_git_state(),
        tasks=tasks or {},
        batch_size=batch_size,
        retrain_auc=retrain_auc,
        retrain_auc_stderr=retrain_auc_stderr,
        training=training,
        seconds=seconds,
        peak_rss_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // unit // 1024,
        peak_gpu_mib=torch.cuda.max_memory_allocated(device) // 2**20 if on_gpu else None,
    )


@cache
def _packages() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


@cache
def _git_state() -> str | None:
    """Commit of the checkout this package runs from, ``+dirty`` if changed; None elsewhere."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        ).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")) != Path(__file__).parents[2]:
            return None  # installed into a folder of somebody else's repository
        dirty = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("+dirty" if dirty else "")
    except (OSError, subprocess.SubprocessError):
        return None
