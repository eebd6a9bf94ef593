"""The bars: how far an evaluation is."""

from typing import Any

from rich.console import Console

from leaderboard.config import CorpusEntry, Evaluation
from leaderboard.execution.single_model import evaluate_model
from leaderboard.progress import Progress


class Recorded(Progress):
    """Keeps what it is told of the work at hand."""

    def __init__(self) -> None:
        super().__init__(Console(quiet=True))
        self.seen: list[tuple[int, int]] = []

    def steps(self, done: int, total: int) -> None:
        self.seen.append((done, total))


def test_every_request_of_an_evaluation_is_counted(small_world: Any) -> None:
    """Three tasks generate, 4 examples each in batches of 3; PrivLeak's 4 texts are scored."""
    progress = Recorded()
    evaluate_model(
        str(small_world.target),
        None,
        "none",
        CorpusEntry(name=str(small_world.corpus)),
        Evaluation(batch_size=3, limit=4),
        progress,
    )
    generated = [3, 4, 7, 8, 11, 12]
    assert progress.seen == [(n, 12) for n in (0, *generated)] + [(n, 4) for n in (0, 3, 4)]
