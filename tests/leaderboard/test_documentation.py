"""README and CONTRIBUTING say what is true: their code runs, their commands exist."""

import io
import re
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from rich.console import Console

from leaderboard.cli import app
from leaderboard.config import RunConfig, parse
from leaderboard.plan import make_plan
from leaderboard.plugins import load_plugin
from leaderboard.progress import Progress
from leaderboard.runner import Runner
from leaderboard.store import RunFolder
from quantizers import list_quantizers
from unlearners import list_unlearners

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


@pytest.mark.parametrize("document", [README, CONTRIBUTING], ids=["README", "CONTRIBUTING"])
def test_example_method_trains(small_world: Any, tmp_path: Path, document: str) -> None:
    (code,) = blocks(document, "python")
    # inside the package the imports are relative, outside absolute
    code = code.replace("from . import losses", "from unlearners import losses")
    code = re.sub(r"from \.\w+ import", "from unlearners import", code)
    path = tmp_path / "example.py"
    path.write_text(code)
    load_plugin(path)
    (name,) = re.findall(r'@register_unlearner\("(\w+)"\)', code)
    assert list_unlearners()[name] == "local"
    grid = small_world.config(
        unlearn=[{"method": name, "finetuning": "lora"}], precisions=["rtn-int4"]
    )
    config = parse(RunConfig, grid, "example")
    runner = Runner(
        config, RunFolder(tmp_path / "run", "small"), Progress(Console(file=io.StringIO()))
    )
    outcome = runner.run(make_plan(config)[-1:])
    assert outcome.done == 1


def test_example_grid_is_valid() -> None:
    (grid,) = blocks(README, "yaml")
    config = parse(RunConfig, yaml.safe_load(grid), "README")
    assert len(config.unlearn) == 2


def test_every_command_in_the_readme_exists() -> None:
    known = set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    used = set(re.findall(r"^lm-eval-muse ([a-z]+)", README, flags=re.MULTILINE))
    assert used
    assert used <= known


def test_every_builtin_is_in_the_readmes_table() -> None:
    names = [name for name, owner in list_unlearners().items() if owner == "lm-eval-muse"]
    assert [name for name in names if f"`{name}`" not in README] == []
    stems = {
        name.partition("-")[0]
        for name, owner in list_quantizers().items()
        if owner == "lm-eval-muse"
    }
    assert [stem for stem in stems if f"`{stem}" not in README] == []
