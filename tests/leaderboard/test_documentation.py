"""README and CONTRIBUTING say what is true: their code runs, their commands exist."""

import io
import re
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from rich.console import Console

from leaderboard.cli.app import app
from leaderboard.config import RunConfig, parse, read_yaml
from leaderboard.execution.runner import Runner
from leaderboard.grid.plan import make_plan
from leaderboard.plugins import load_plugin
from leaderboard.progress import Progress
from leaderboard.records.samples import recompute
from leaderboard.records.schema import REFERENCES
from leaderboard.records.store import (
    RunFolder,
    read_records,
    read_samples,
    run_name,
)
from leaderboard.report.files import differences, outputs
from leaderboard.standings.table import build_table
from quantizers import list_quantizers
from unlearners import list_unlearners

ROOT = Path(__file__).parent.parent.parent
RESULTS = ROOT / "leaderboard" / "results"
CONFIGS = ROOT / "leaderboard" / "configs"
STUDY = ROOT / "leaderboard" / "results" / "smollm2-news-mini" / "study"
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


def test_recorded_results_are_what_their_records_give() -> None:
    """`lm-eval-muse table leaderboard/results/NAME` mends it."""
    folders = [path.parent for path in RESULTS.glob("*/run.json")]
    assert RESULTS / "demo" in folders
    for folder in folders:
        records = read_records(folder)
        texts = outputs(folder, run_name(folder), records, build_table(records), [])
        assert differences(folder, texts) == []


def test_the_readmes_table_is_the_recorded_one() -> None:
    recorded = (RESULTS / "demo" / "table.md").read_text(encoding="utf-8").splitlines()
    shown = [line for line in README.splitlines() if re.match(r"\| (target|retrain|ga|npo)", line)]
    assert len(shown) == 28
    assert [line for line in shown if line not in recorded] == []


def test_recorded_demo_is_complete_and_of_one_clean_commit() -> None:
    config = parse(RunConfig, read_yaml(CONFIGS / "demo_full.yaml"), "demo_full")
    records = read_records(RESULTS / "demo")
    methods, seeds = len(config.unlearn), len(config.seeds)
    assert len(records) == len(config.precisions) * (methods * seeds + 2)
    assert {record.status for record in records} == {"done"}
    (commit,) = {record.provenance.git for record in records}
    assert commit is not None and not commit.endswith("+dirty")
    for record in records:
        again = recompute(read_samples(RESULTS / "demo", record), record.provenance.retrain_auc)
        assert again == pytest.approx({name: m.value for name, m in record.metrics.items()})


def test_recorded_smollm2_is_what_its_configurations_ask_for() -> None:
    """Both are grids of one run; of one clean commit, and without any text."""
    wanted: set[tuple[Any, ...]] = set()
    for name in ("smollm2_news", "smollm2_news_seeds"):
        config = parse(RunConfig, read_yaml(STUDY / f"{name}.yaml"), name)
        for precision in config.precisions:
            wanted |= {(role, "none", None, None, 0, precision.name) for role in REFERENCES}
            for entry, seed in product(config.unlearn, config.seeds):
                rate = entry.training["learning_rate"]
                dtype = entry.training.get("weights_dtype", "float32")
                wanted.add((entry.method, entry.finetuning, rate, dtype, seed, precision.name))
    records = read_records(RESULTS / "smollm2-news-mini")
    found = [
        (
            *(training.method, training.finetuning),
            *(training.settings.get(name) for name in ("learning_rate", "weights_dtype")),
            *(training.seed, record.cell.precision),
        )
        for record in records
        for training in [record.cell.training]
    ]
    assert set(found) == wanted
    assert len(found) == len(wanted)
    assert {(record.status, record.samples) for record in records} == {("done", None)}
    (commit,) = {record.provenance.git for record in records}
    assert commit is not None and not commit.endswith("+dirty")
