"""A small grid, the command line as a process, and the table that `make faults` ends with."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from announced import FORK, Command
from rich.console import Console
from rich.table import Table

from harness_tasks.corpora.demo import DemoWorld, demo_corpus_folder
from leaderboard.corpora.demo_models import DemoRecipe, demo_models

WORLD = DemoWorld(forget=10, retain=10, holdout=10)
RECIPE = DemoRecipe(vocabulary=400, hidden=32, layers=2, window=128, epochs=2)


@dataclass
class Faults:
    """Rows of the table: what was done, how often, and what came of it."""

    rows: list[tuple[str, str, str]] = field(default_factory=list)

    def add(self, fault: str, times: int, outcome: str) -> None:
        self.rows.append((fault, str(times), outcome))


FAULTS = pytest.StashKey[Faults]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[FAULTS] = Faults()


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    table = Table("Fault", "Times", "Outcome")
    for row in config.stash[FAULTS].rows:
        table.add_row(*row)
    console = Console(width=110)
    with console.capture() as capture:
        console.print(table)
    terminalreporter.section("faults")
    terminalreporter.write(capture.get())


@pytest.fixture
def faults(request: pytest.FixtureRequest) -> Faults:
    return request.config.stash[FAULTS]


@dataclass(frozen=True)
class Grid:
    """A grid of three methods and two precisions; its processes share one cache folder."""

    root: Path
    target: Path
    retrain: Path

    @property
    def cache(self) -> Path:
        return self.root / "cache"

    @property
    def temporary(self) -> Path:
        return self.root / "tmp"

    def config(self, name: str, **changes: Any) -> Path:
        models = {"target": {"path": str(self.target)}, "retrain": {"path": str(self.retrain)}}
        training = {"window": 128, "batch_size": 4, "max_steps": 6, "save_steps": 2}
        content = {
            "name": "small",
            "corpora": [{"name": str(demo_corpus_folder(WORLD)), **models}],
            "precisions": ["none", "rtn-int4"],
            "training": training | {"learning_rate": 1e-3},
            "unlearn": [
                {"method": "npo_gdr", "finetuning": "lora"},
                {"method": "npo_klr", "finetuning": "full"},  # reads references/
                {"method": "task_vector", "finetuning": "full"},  # keeps the target's weights
            ],
            "evaluation": {"limit": 4},
        }
        path = self.root / f"{name}.yaml"
        path.write_text(yaml.safe_dump(content | changes))
        return path

    def start(self, *arguments: str | Path, ahead: timedelta = timedelta()) -> Command:
        return Command(tuple(map(str, arguments)), self.temporary, ahead)


@pytest.fixture(scope="session")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Grid]:
    root = tmp_path_factory.mktemp("faults")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LM_EVAL_MUSE_CACHE", str(root / "cache"))
        training = FORK.Process(target=demo_models, args=(WORLD, RECIPE))
        training.start()  # elsewhere: a process that has computed is no good to be forked
        training.join()
        models = demo_models(WORLD, RECIPE)
        (root / "tmp").mkdir()
        yield Grid(root, models.target, models.retrain)
