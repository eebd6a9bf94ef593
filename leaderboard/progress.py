"""Progress bars of a run."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.progress import Progress as RichProgress


class Progress:
    """Two bars: all cells of the run, and the work at hand.

    Args:
        console: Console of the bars; without a terminal, one line per stage is printed.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars = RichProgress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )
        self._cells = self._bars.add_task("cells", total=None, start=True)
        self._work = self._bars.add_task("starting", total=None)

    def __enter__(self) -> Progress:
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()  # theirs, of every model loaded or saved, would break up ours
        if self._console.is_terminal:
            self._bars.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bars.stop()

    def start(self, cells: int) -> None:
        """Set the number of cells of the run."""
        self._bars.update(self._cells, total=cells)

    def advance(self, cells: int) -> None:
        """Count finished cells."""
        self._bars.advance(self._cells, cells)

    def stage(self, text: str) -> None:
        """Begin a new piece of work."""
        self._bars.reset(self._work, total=None, description=text)
        if not self._console.is_terminal:
            cells = self._bars.tasks[0]
            of = f"[{cells.completed:.0f}/{cells.total:.0f}] " if cells.total else ""
            self._console.print(of + text, markup=False, highlight=False)

    def steps(self, done: int, total: int) -> None:
        """Show the progress of the current work, in steps of training or requests."""
        self._bars.update(self._work, completed=done, total=total)

    def requests(self, total: int, **_: Any) -> Requests:
        """Make a counter of the requests of an evaluation; the signature is that of tqdm."""
        return Requests(self, total)

    def say(self, text: str) -> None:
        """Print a line that stays."""
        self._bars.console.print(text, markup=False, highlight=False)


class Requests:
    """Counter of the requests of an evaluation, with the part of tqdm that is used."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress, self._done, self._total = progress, 0, total

    def __enter__(self) -> Requests:
        self.update(0)
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def update(self, n: int) -> None:
        """Count answered requests."""
        self._done += n
        self._progress.steps(self._done, self._total)
