"""Documentation: its code runs, its commands exist, its links lead somewhere."""

import io
import json
import os
import re
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from rich.console import Console
from transformers import AutoModelForCausalLM

from leaderboard.cli import app
from leaderboard.config import RunConfig, parse, read_yaml
from leaderboard.execution.runner import Runner
from leaderboard.grid.plan import make_plan
from leaderboard.plugins import load_plugin
from leaderboard.progress import Progress
from leaderboard.records.samples import recompute
from leaderboard.records.schema import METRICS, REFERENCES, Record
from leaderboard.records.store import (
    RunFolder,
    read_records,
    read_samples,
    run_name,
)
from leaderboard.report.files import differences, outputs
from leaderboard.standings.table import build_table
from quantizers import get_quantizer, list_quantizers
from unlearners import list_unlearners
from unlearners.testing import check_unlearner

ROOT = Path(__file__).parent.parent.parent
RESULTS = ROOT / "leaderboard" / "results"
CONFIGS = ROOT / "leaderboard" / "configs"
STUDY = ROOT / "leaderboard" / "results" / "smollm2-news-mini" / "study"
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCS = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "docs").glob("*.md")}
PAGES = {"README": README, "CONTRIBUTING": (ROOT / "CONTRIBUTING.md").read_text("utf-8")} | DOCS


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def run_cells(small_world: Any, folder: Path, **grid: Any) -> list[Record]:
    config = parse(RunConfig, small_world.config(**grid), "example")
    run = RunFolder(folder / "run", "small")
    Runner(config, run, Progress(Console(file=io.StringIO()))).run(make_plan(config)[-1:])
    return read_records(run.path)


@pytest.mark.parametrize("page", ["README", "methods"])
def test_example_method_trains(small_world: Any, tmp_path: Path, page: str) -> None:
    (code,) = blocks(PAGES[page], "python")
    path = tmp_path / "example.py"
    path.write_text(code)
    load_plugin(path)
    (name,) = re.findall(r'@register_unlearner\("(\w+)"\)', code)
    assert list_unlearners()[name] == "local"
    (record,) = run_cells(
        small_world,
        tmp_path,
        unlearn=[{"method": name, "finetuning": "lora"}],
        precisions=["rtn-int4"],
    )
    assert record.status == "done"
    if page == "methods":
        check_unlearner(name)


def test_example_quantizer_quantizes(small_world: Any, tmp_path: Path) -> None:
    """Every weight is a sign times the mean of its row: two values a row, of equal size."""
    path = tmp_path / "example.py"
    path.write_text(*blocks(DOCS["quantizers"], "python"))
    load_plugin(path)
    model = AutoModelForCausalLM.from_pretrained(small_world.target)
    weight = model.model.layers[0].mlp.up_proj.weight
    wanted = weight.sign() * weight.abs().mean(1, keepdim=True)
    assert get_quantizer("my-sign")(model).model.layers[0].mlp.up_proj.weight.equal(wanted)
    records = run_cells(small_world, tmp_path, unlearn=[], precisions=["my-sign"])
    assert {(record.status, record.bits) for record in records} == {("done", 1)}


def test_examples_pass_lint_and_types(tmp_path: Path) -> None:
    """As they would have to in this repository."""
    paths = [tmp_path / f"example_{page}.py" for page in ("methods", "quantizers")]
    for path in paths:
        path.write_text(*blocks(DOCS[path.stem.removeprefix("example_")], "python"))
    settings = ["--config", ROOT / "pyproject.toml"]
    for tool in (
        ["ruff", "check", *settings],
        ["ruff", "format", "--check", *settings],
        ["mypy", "--config-file", ROOT / "pyproject.toml"],
    ):
        result = subprocess.run(
            [sys.executable, "-m", *map(str, (*tool, *paths))],
            cwd=ROOT,
            env=os.environ | {"MYPYPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stdout + result.stderr


def test_python_api(
    small_world: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    steps, grid = blocks(DOCS["python-api"], "python")
    steps = steps.replace('"TARGET"', repr(str(small_world.target)))
    exec(steps.replace('"CORPUS"', repr(str(small_world.corpus))), {})
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [*METRICS]
    Path("grid.yaml").write_text(json.dumps(small_world.config(precisions=["none"])))
    exec(grid, {})
    assert "target none none" in capsys.readouterr().out


@pytest.mark.parametrize("page", ["README", "grids"])
def test_example_grid_is_valid(page: str) -> None:
    (grid,) = blocks(PAGES[page], "yaml")
    config = parse(RunConfig, yaml.safe_load(grid), page)
    assert len(config.unlearn) == 2


@pytest.mark.parametrize("page", PAGES)
def test_every_command_exists(page: str) -> None:
    known = set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    used = set(re.findall(r"^lm-eval-muse ([a-z]+)", PAGES[page], flags=re.MULTILINE))
    assert used <= known


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    folder = ROOT / "docs" if page in DOCS else ROOT
    for target in re.findall(r"\]\(([^)#:]+)(?:#[\w-]+)?\)", PAGES[page]):
        assert (folder / target).exists(), target


def test_every_builtin_is_in_the_docs() -> None:
    for names, page in ((list_unlearners(), "methods"), (list_quantizers(), "quantizers")):
        missing = [
            name
            for name, owner in names.items()
            if owner == "lm-eval-muse" and f"`{name}`" not in DOCS[page]
        ]
        assert missing == []


def test_recorded_results_are_what_their_records_give() -> None:
    """`lm-eval-muse table leaderboard/results/NAME` mends it."""
    folders = [path.parent for path in RESULTS.glob("*/run.json")]
    assert RESULTS / "demo" in folders
    for folder in folders:
        records = read_records(folder)
        texts = outputs(folder, run_name(folder), records, build_table(records), [])
        assert differences(folder, texts) == []


def table_rows(text: str) -> dict[tuple[str, ...], dict[str, str]]:
    """Rows of a table of results by method, finetuning and precision."""
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    start = next(i for i, cells in enumerate(lines) if cells[:1] == ["Method"] and len(cells) > 5)
    rows = {}
    for cells in lines[start + 2 :]:
        if not cells:
            break
        rows[tuple(cells[:3])] = dict(zip(lines[start], cells, strict=True))
    return rows


def test_the_readmes_table_is_the_recorded_one() -> None:
    """Some of its rows and columns, figure by figure."""
    recorded = table_rows((RESULTS / "demo" / "table.md").read_text(encoding="utf-8"))
    shown = table_rows(README)
    assert len(shown) >= 10
    for row, cells in shown.items():
        assert cells.items() <= recorded[row].items(), row


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
