"""The zero of PrivLeak, measured on the retrained model."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from harness_tasks.corpora import load_corpus

from ..trades import invoke


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
