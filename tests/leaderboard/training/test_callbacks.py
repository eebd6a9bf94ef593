"""Progress of a training."""

from types import SimpleNamespace
from typing import Any

from rich.console import Console

from leaderboard.progress import Progress
from leaderboard.training.callbacks import TrainingProgress


def test_every_step_is_shown(monkeypatch: Any) -> None:
    seen: list[tuple[int, int]] = []
    progress = Progress(Console(quiet=True))
    monkeypatch.setattr(progress, "steps", lambda done, total: seen.append((done, total)))
    callback: Any = TrainingProgress(progress)
    for step in (1, 2):
        callback.on_step_end(None, SimpleNamespace(global_step=step, max_steps=2), None)
    assert seen == [(1, 2), (2, 2)]
