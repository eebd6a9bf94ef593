"""Ratios measured by the benchmarks, printed at the end; run them with `make bench`."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from statistics import median
from time import perf_counter
from typing import Any

import pytest


@dataclass
class Ratios:
    """Lines for the summary."""

    lines: list[str] = field(default_factory=list)

    def add(self, what: str, ratio: float, goal: str = "") -> None:
        self.lines.append(f"{what}: {ratio:.2f}" + (f" (goal: {goal})" if goal else ""))


RATIOS = pytest.StashKey[Ratios]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[RATIOS] = Ratios()


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    terminalreporter.section("ratios")
    for line in config.stash[RATIOS].lines:
        terminalreporter.write_line(line)


@pytest.fixture
def ratios(request: pytest.FixtureRequest) -> Iterator[Ratios]:
    yield request.config.stash[RATIOS]


def seconds_of(work: Callable[[], object], rounds: int = 5) -> float:
    """Median wall time of ``work``, once warmed up."""
    work()
    times = []
    for _ in range(rounds):
        start = perf_counter()
        work()
        times.append(perf_counter() - start)
    return median(times)
