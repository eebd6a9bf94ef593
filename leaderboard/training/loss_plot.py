"""The loss curve of one unlearning run."""

from __future__ import annotations

import json
from pathlib import Path

TERMS = ("forget", "retain", "loss")


def plot_losses(log: Path, path: Path) -> None:
    """Draw forget, retain and whole loss per step from the JSON lines of a run.

    Args:
        log: ``loss.jsonl``.
        path: the PNG to write.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    entries = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    figure, panel = plt.subplots(figsize=(7, 4))
    for term in TERMS:
        points = [(entry["step"], entry[term]) for entry in entries if term in entry]
        if points:
            panel.plot(*zip(*points, strict=True), label=term, linewidth=1)
    panel.set_xlabel("step")
    panel.set_ylabel("loss")
    panel.grid(alpha=0.3)
    panel.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
