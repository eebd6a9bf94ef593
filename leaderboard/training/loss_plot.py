"""Loss curve of an unlearning run."""

from __future__ import annotations

import json
from pathlib import Path

TERMS = ("forget", "retain", "loss")


def plot_losses(log: Path, path: Path) -> None:
    """Draw the forget, retain and total loss of each optimizer step.

    Args:
        log: ``loss.jsonl`` of the run, one JSON object per step.
        path: PNG file to write.
    """
    from matplotlib.figure import Figure

    entries = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    figure = Figure((7, 4), layout="tight")
    axes = figure.subplots()
    for term in TERMS:
        points = [(entry["step"], entry[term]) for entry in entries if term in entry]
        if points:
            axes.plot(*zip(*points, strict=True), label=term, linewidth=1)
    axes.set(xlabel="step", ylabel="loss")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)
