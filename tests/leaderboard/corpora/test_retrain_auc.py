"""The zero of PrivLeak, measured on the retrained model."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from harness_tasks.corpora import load_corpus
from leaderboard.cli.app import app
from leaderboard.cli.corpus import EXAMPLE


def invoke(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def build(out: Path, tokenizer: Path, *more: object) -> Any:
    places = {"forget": "forget", "retain": "retain.jsonl", "holdout": "holdout.json"}
    sides = [part for side, name in places.items() for part in (f"--{side}", EXAMPLE / name)]
    arguments = ["--qa", EXAMPLE / "questions.jsonl", "--tokenizer", tokenizer, "--out", out]
    return invoke("corpus", "build", *sides, *arguments, *more)


@pytest.fixture(scope="module")
def trades(small_world: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example, cut for a tokenizer of 400 words and a small context."""
    folder = tmp_path_factory.mktemp("corpora") / "trades"
    result = build(folder, small_world.target, "--prompt-tokens", 200, "--text-tokens", 300)
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture
def copy(trades: Path, tmp_path: Path) -> Path:
    """One that a test may write to."""
    return Path(shutil.copytree(trades, tmp_path / "trades"))


def test_retrain_auc_is_measured_once_and_of_one_model(small_world: Any, copy: Path) -> None:
    first = invoke("corpus", "retrain-auc", "--corpus", copy, "--model", small_world.retrain)
    assert first.exit_code == 0, first.output
    kept = json.loads((copy / "retrain_auc.json").read_text())
    assert kept["model"]["name"] == small_world.retrain.name
    assert kept["corpus"] == load_corpus(str(copy)).fingerprint
    assert load_corpus(str(copy)).retrain_auc == kept["retrain_auc"]
    assert f"retrain AUC {kept['retrain_auc']:.4f}" in first.output

    again = invoke("corpus", "retrain-auc", "--corpus", copy, "--model", small_world.retrain)
    assert again.output.splitlines()[-1] == first.output.splitlines()[-1]
    other = invoke("corpus", "retrain-auc", "--corpus", copy, "--model", small_world.target)
    assert "which is not of this model and text" in str(other.exception)
    assert json.loads((copy / "retrain_auc.json").read_text()) == kept

    texts = copy / "privleak" / "holdout.json"
    texts.write_text(json.dumps(json.loads(texts.read_text())[:-1]))
    changed = invoke("corpus", "retrain-auc", "--corpus", copy, "--model", small_world.retrain)
    assert "which is not of this model and text" in str(changed.exception)


def test_retrain_auc_that_is_no_zero_is_not_kept(small_world: Any, copy: Path) -> None:
    """Holdout texts of one likely token over and over, against the articles: AUC 1."""
    texts = [" the the the the" * 40] * 12
    (copy / "privleak" / "forget.json").write_text(json.dumps(texts))
    result = invoke("corpus", "retrain-auc", "--corpus", copy, "--model", small_world.retrain)
    assert re.search(
        r"the AUC of retrain-\w+ on corpus trades is [01]: it tells", str(result.exception)
    )
    assert not (copy / "retrain_auc.json").exists()


@pytest.mark.parametrize("corpus", ["news", "demo"])
def test_retrain_auc_of_a_corpus_with_its_own(small_world: Any, corpus: str) -> None:
    result = invoke("corpus", "retrain-auc", "--corpus", corpus, "--model", small_world.retrain)
    assert f"corpus {corpus} has a retrain AUC of its own" in str(result.exception)
