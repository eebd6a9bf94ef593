"""Comparison of records with the configuration of a submission."""

from __future__ import annotations

import copy

import pytest

from .damage import (
    Folder,
    assert_named,
    sealed,
    setting,
)

CASES = {
    "seed without records": (setting("seeds", [0, 1]), r"config.yaml: no record of .*--seed1"),
    "precision without records": (
        lambda folder: folder.change_yaml(
            lambda config: config["precisions"].append({"quantizer": "rtn-int8"})
        ),
        r"config.yaml: no record of .*--target--none--rtn-int8--seed0",
    ),
    "corpus without records": (
        lambda folder: folder.change_yaml(lambda config: config["corpora"].append("news")),
        r"config.yaml: no record of news retrain",
    ),
    "corpus twice": (
        lambda folder: folder.change_yaml(
            lambda config: config["corpora"].append(copy.deepcopy(config["corpora"][0]))
        ),
        r"config.yaml: corpora: one is given twice",
    ),
    "suite without records": (setting("suites", ["sust"]), r"no record of .*--sust4--none--seed0"),
    "other parameter": (
        setting("unlearn.0.params", {"limit": 6.0}),
        r"records/.*: cell.training.params.limit: 5.0, config.yaml says 6.0",
    ),
    "other learning rate": (
        setting("unlearn.0.training.learning_rate", 0.5),
        r"cell.training.settings.learning_rate: 0.001, config.yaml says 0.5",
    ),
    "default left open": (
        setting("unlearn.0.finetuning_params", {"rank": 4}),
        r"cell.training.finetuning_params.alpha: 32, config.yaml says None",
    ),
    "other limit": (setting("evaluation.limit", None), r"cell.limit: 6, config.yaml says None"),
    "other split": (setting("corpora.0.forget", "raw/other"), r"forget is raw/other, the records"),
    "other model": (setting("corpora.0.target.path", "other"), r"the records have another target"),
    "other tokenizer": (
        setting("corpora.0.target.tokenizer", "other"),
        r"the records have another tokenizer of target",
    ),
    "other dtype": (
        setting("evaluation.dtype", "bfloat16"),
        r"cell.training.dtype: float32, config.yaml says bfloat16",
    ),
    "chat template": (
        setting("evaluation.chat_template", True),
        r"cell.chat_template: False, config.yaml says True",
    ),
    "other zero of PrivLeak": (
        lambda folder: folder.change_cell(
            lambda cell: cell.update(retrain_auc={"source": "corpus", "value": 0.5, "model": None})
        ),
        r"cell.retrain_auc.source: corpus, config.yaml says measured",
    ),
    "another method": (setting("unlearn.0.method", "npo"), r"npo is not the submitted method"),
    "unnamed cell": (
        setting("precisions", ["none"]),
        r"records/.*: config.yaml does not name this",
    ),
    "nothing unlearned": (setting("unlearn", []), r"config.yaml: unlearn: is empty"),
    "unknown corpus": (setting("unlearn.0.corpora", ["mars"]), r"unlearn: mars is not among"),
    "endless grid": (
        setting("seeds", list(range(1_000_000, 1_010_000))),
        r"config.yaml: more than 20000 cells",
    ),
    "one cell on other text": (
        lambda folder: folder.change_cell(
            lambda cell: cell["training"]["corpus"].update(fingerprint="0" * 64)
        ),
        r"cell.training.corpus.fingerprint: 0{64}, config.yaml says",
    ),
    "one cell from another model": (
        lambda folder: folder.change_cell(
            lambda cell: cell["training"]["model"].update(revision="sha256:0")
        ),
        r"cell.training.model.revision: sha256:0, config.yaml says sha256:",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_difference_from_the_grid_is_named(folder: Folder, name: str) -> None:
    damage, expected = CASES[name]
    assert_named(folder, sealed(damage), expected)
