"""`corpus build` and `corpus retrain-auc`, and a grid on what they make."""

import io
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from harness_tasks.corpora import load_corpus
from harness_tasks.errors import CorpusError
from leaderboard.cli import common
from leaderboard.cli.corpus import EXAMPLE
from leaderboard.records.store import read_records

from ..trades import build, invoke

ROOT = Path(__file__).parents[3]


@pytest.fixture
def messages(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """Stream of the messages to standard error."""
    text = io.StringIO()
    monkeypatch.setattr(common, "err", Console(file=text))
    return text


def test_build_says_what_was_made_and_what_comes_next(
    small_world: Any, tmp_path: Path, messages: io.StringIO
) -> None:
    result = build(tmp_path / "mine", small_world.target, "--max-documents", 8)
    assert result.exit_code == 0, result.output
    assert re.search(r"verbmem/forget +│ gt +│ 8 +│ \d+ to \d+, median \d+", result.output)
    assert re.search(r"knowmem/retain_qa_icl +│ question +│ 10 +│ —", result.output)
    told = messages.getvalue()
    # four of the forget set's twelve articles are not there
    assert "warning: 4 of 12 answers do not stand in the forget documents: line 9, line 10" in told
    assert f"corpus retrain-auc --corpus {tmp_path / 'mine'} --model RETRAINED" in told


def test_the_example_needs_no_warning(
    small_world: Any, tmp_path: Path, messages: io.StringIO
) -> None:
    result = build(tmp_path / "mine", small_world.target)
    assert "by words, without a model: AUC 0." in result.output
    assert "warning" not in messages.getvalue()


def test_a_mistake_is_one_line(small_world: Any, tmp_path: Path) -> None:
    sides = [f"--{side}={EXAMPLE / 'holdout.json'}" for side in ("forget", "retain", "holdout")]
    arguments = [f"--tokenizer={small_world.target}", f"--out={tmp_path / 'mine'}"]
    result = invoke("corpus", "build", *sides, *arguments)
    assert isinstance(result.exception, CorpusError)
    assert str(result.exception) == (
        "forget, entry 0, and retain, entry 0, have 100% of their text in common: a text can be on "
        "one side only"
    )
    assert not (tmp_path / "mine").exists()


def test_a_grid_runs_on_it(small_world: Any, copy: Path, tmp_path: Path) -> None:
    """References, a method, and the method on four growing forget sets."""
    invoke("corpus", "retrain-auc", "--corpus", copy, "--model", small_world.retrain)
    grid = small_world.config()
    corpora = [grid["corpora"][0] | {"name": str(copy)}]
    config = small_world.write_config(
        tmp_path, corpora=corpora, precisions=["rtn-int4"], suites=["scal"], evaluation={"limit": 6}
    )
    result = invoke("run", config, "--out", tmp_path / "run")
    assert result.exit_code == 0, result.output
    records = read_records(tmp_path / "run")
    assert len(records) == 2 + 1 + 4
    assert {record.cell.training.corpus.name for record in records} == {"trades"}
    assert all(len(record.metrics) >= 4 for record in records)


def test_the_documented_commands_are_these(
    small_world: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    """Those of docs/corpora.md, word for word, with a tokenizer and a model of ours."""
    text = (ROOT / "docs" / "corpora.md").read_text(encoding="utf-8")
    joined = text.replace("\\\n", " ")
    lines = re.findall(r"^lm-eval-muse (corpus .*)$", joined, flags=re.MULTILINE)
    assert [line.split()[1] for line in lines] == ["build", "finetune", "finetune", "retrain-auc"]
    (tmp_path / "harness_tasks").symlink_to(ROOT / "harness_tasks")
    monkeypatch.chdir(tmp_path)
    for line in lines:
        arguments = [str(small_world.retrain) if p == "MODEL" else p for p in line.split()]
        if "finetune" in arguments:  # the model is small, and so is the time
            arguments += ["--training", "window=64", "--training", "max_steps=1"]
        result = invoke(*arguments)
        assert result.exit_code == 0, (result.output, result.exception)
    assert load_corpus("trades").retrain_auc is not None
