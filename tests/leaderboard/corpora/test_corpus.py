"""Models of a corpus in a grid."""

from pathlib import Path
from typing import Any

import pytest

from leaderboard.config import RunConfig, parse
from leaderboard.errors import InputError
from leaderboard.grid.plan import make_plan


def test_corpus_folder_needs_a_target(small_world: Any) -> None:
    config = parse(RunConfig, small_world.config(corpora=[str(small_world.corpus)]), "grid.yaml")
    with pytest.raises(InputError, match="needs `target:`"):
        make_plan(config)


def test_folder_that_is_no_model(small_world: Any, tmp_path: Path) -> None:
    corpora = [{"name": str(small_world.corpus), "target": {"path": str(tmp_path)}}]
    config = parse(RunConfig, small_world.config(corpora=corpora), "grid.yaml")
    with pytest.raises(InputError, match=r"is not a model folder: it has no config\.json"):
        make_plan(config)


def test_hub_model_needs_its_commit(small_world: Any) -> None:
    corpora = [{"name": str(small_world.corpus), "target": {"path": "org/model"}}]
    config = parse(RunConfig, small_world.config(corpora=corpora), "grid.yaml")
    with pytest.raises(InputError, match="full commit"):
        make_plan(config)


def test_published_corpora_have_published_models(tmp_path: Path) -> None:
    (tmp_path / "news").mkdir()
    config = parse(
        RunConfig,
        {
            "name": "news",
            "corpora": [{"name": "news", "data_dir": str(tmp_path)}],
            "precisions": ["none"],
        },
        "grid.yaml",
    )
    target, retrain = make_plan(config)
    assert target.training.model.name == "muse-bench/MUSE-News_target"
    assert retrain.training.model.revision.startswith("324ef49e")


def test_own_target_has_no_published_retrain(small_world: Any, tmp_path: Path) -> None:
    (tmp_path / "news").mkdir()
    target = {"path": str(small_world.target)}
    corpora = [{"name": "news", "data_dir": str(tmp_path), "target": target}]
    config = parse(RunConfig, small_world.config(corpora=corpora, unlearn=[]), "grid.yaml")
    assert [planned.training.method for planned in make_plan(config)] == ["target"]
