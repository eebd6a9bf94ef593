"""Loss curve of a training."""

import json
from pathlib import Path

from leaderboard.training.loss_plot import plot_losses


def test_png_of_all_terms(tmp_path: Path) -> None:
    lines = [{"step": n, "loss": 3.0 - n, "forget": 1.0, "retain": 2.0 - n} for n in (1, 2)]
    (tmp_path / "loss.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    plot_losses(tmp_path / "loss.jsonl", tmp_path / "loss.png")
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")
