"""Configuration of submissions, and refusals before anything is run."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from leaderboard.config import RunConfig
from leaderboard.corpora.corpus import PUBLISHED_MODELS
from leaderboard.errors import InputError
from leaderboard.grid.plan import make_plan
from leaderboard.grid.sweep import SweepConfig
from leaderboard.submissions.grid_checks import grid_findings
from leaderboard.submissions.packing import pack
from leaderboard.submissions.submission import Submission, resolved, submissions
from unlearners import UnlearnerError


def load(packed: Any) -> RunConfig:
    return RunConfig.model_validate(yaml.safe_load(packed.config.read_text()))


def test_config_is_resolved_and_says_nothing_of_this_machine(
    packed: Any, small_world: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Config of a submission: the same cells again, with the named folders next to it."""
    text = (packed.folder / "config.yaml").read_text()
    assert str(small_world.target.parent) not in text
    assert "&" not in text and "npo_gdr" not in text
    content = yaml.safe_load(text)
    (entry,) = content["unlearn"]
    assert entry["params"] == {"limit": 5.0}
    assert entry["finetuning_params"] == {
        "rank": 4,
        "alpha": 32,
        "dropout": 0.05,
        "targets": "all-linear",
    }
    assert entry["training"]["learning_rate"] == 1e-3
    assert entry["training"]["lr_scheduler"] == "constant"

    for folder in (small_world.corpus, small_world.target, small_world.retrain):
        (tmp_path / folder.name).symlink_to(folder)
    monkeypatch.chdir(tmp_path)
    plan = make_plan(RunConfig.model_validate(content))
    stems = {cell.cell.stem for planned in plan for cell in planned.cells}
    assert stems == {path.stem for path in (packed.folder / "records").glob("*.json")}


def test_models_of_the_hub_keep_their_commits(small_world: Any) -> None:
    """Commits of models and tokenizers; the published repositories have no tokenizer."""
    config = RunConfig.model_validate(small_world.config(corpora=["news"]))
    plan = make_plan(config)
    (corpus,) = resolved(Submission(method="npo_gdr", config=config, plan=plan)).corpora
    assert corpus.target == PUBLISHED_MODELS["news", "target"]
    assert corpus.retrain == PUBLISHED_MODELS["news", "retrain"]


def test_sweep_is_part_of_the_submission(packed: Any, trusted: None, tmp_path: Path) -> None:
    """Sweep in the README, its corpora named as in config.yaml."""
    search = SweepConfig.model_validate(
        {
            **load(packed).model_dump(mode="json", exclude={"unlearn"}),
            "search": [
                {
                    "method": "bounded_ascent",
                    "finetuning": "lora",
                    "fixed": {"finetuning_params": {"rank": 4}},
                    "grid": {"params.limit": [5.0, 7.5]},
                }
            ],
        }
    )
    config = load(packed)
    only = config.model_copy(update={"unlearn": config.unlearn[:1]})
    (found,) = submissions(only, plugins=[packed.plugin], search=search)
    pack(found, packed.run, tmp_path / "pack")
    assert "| lora | params.limit | 5.0, 7.5 |" in (tmp_path / "pack" / "README.md").read_text()
    kept = yaml.safe_load((tmp_path / "pack" / "search.yaml").read_text())
    resolved = yaml.safe_load((tmp_path / "pack" / "config.yaml").read_text())
    assert kept["corpora"] == resolved["corpora"]

    untried = search.model_copy(
        update={"search": [search.search[0].model_copy(update={"grid": {"params.limit": [1.0]}})]}
    )
    with pytest.raises(
        InputError, match=r"--search: '.* lora' has settings that the sweep did not"
    ):
        submissions(only, plugins=[packed.plugin], search=untried)


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({}, {"named": ["npo"]}, "--method npo: the configuration unlearns with npo_gdr"),
        ({}, {}, r"all methods of the configuration are built in \(npo_gdr\): choose the one"),
        ({"unlearn": []}, {}, "all methods of the configuration are built in"),
        (
            {"evaluation": {"log_samples": False}},
            {"named": ["npo_gdr"]},
            "evaluation.log_samples: false",
        ),
        (
            {},
            {"named": ["npo_gdr"], "plugins": [Path("größe.py")]},
            "--plugin größe.py: give the file a name of ASCII",
        ),
        (
            {},
            {"named": ["npo_gdr"], "plugins": [Path("a/x.py"), Path("b/x.py")]},
            "--plugin: two of the files have the same name",
        ),
    ],
)
def test_refused_before_anything_is_run(
    small_world: Any, changes: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    config = RunConfig.model_validate(small_world.config(**changes))
    with pytest.raises(InputError, match=message):
        submissions(config, **options)


def test_corpora_of_other_methods_are_left_out(
    small_world: Any, trusted: None, tmp_path: Path
) -> None:
    """Two corpora, the second for another method only; then two with the same name."""
    content = small_world.config()
    (first,) = content["corpora"]
    other = tmp_path / "other"
    shutil.copytree(small_world.corpus, other)
    content["corpora"].append({**first, "name": str(other)})
    content["unlearn"] = [
        {"method": "npo_gdr", "finetuning": "lora", "corpora": [first["name"]]},
        {"method": "ga_gdr", "finetuning": "lora"},
    ]
    (npo, ga) = submissions(RunConfig.model_validate(content), ["npo_gdr", "ga_gdr"])
    assert [p.training.method for p in npo.plan] == ["target", "retrain", "npo_gdr"]
    assert len(ga.plan) == 2 * 3

    twin = tmp_path / "twin" / small_world.corpus.name
    shutil.copytree(small_world.corpus, twin)
    (twin / "retrain_auc.json").unlink()
    (twin / "raw" / "forget.json").write_text('["Another text."]')
    content["corpora"][1]["name"] = str(twin)
    with pytest.raises(InputError, match="two are called 'corpus-"):
        submissions(RunConfig.model_validate(content), ["ga_gdr"])
    content["corpora"][1]["name"] = str(other.rename(tmp_path / "mine, all mine"))
    with pytest.raises(InputError, match="'mine, all mine' is part of the names of records"):
        submissions(RunConfig.model_validate(content), ["ga_gdr"])


def test_retrain_model_is_part_of_every_submission(small_world: Any) -> None:
    content = small_world.config()
    del content["corpora"][0]["retrain"]
    with pytest.raises(InputError, match=r"needs `retrain:`, the model trained without the forget"):
        submissions(RunConfig.model_validate(content), ["npo_gdr"])


@pytest.mark.parametrize(
    ("name", "body", "message"),
    [
        ("retrain", "'''Sly.'''", "method 'retrain': the name must match"),
        (
            "lossless",
            "'''Idle.'''",
            "lossless breaks the contract of methods: .*NotImplementedError",
        ),
    ],
)
def test_method_that_cannot_be_submitted(
    small_world: Any, tmp_path: Path, name: str, body: str, message: str
) -> None:
    from leaderboard.plugins import load_plugin

    plugin = tmp_path / "method.py"
    plugin.write_text(
        "from dataclasses import dataclass\n"
        "from unlearners import Unlearner, register_unlearner\n"
        f"@register_unlearner({name!r})\n"
        "@dataclass(frozen=True, kw_only=True)\n"
        f"class Method(Unlearner):\n    {body}\n"
    )
    load_plugin(plugin)
    config = RunConfig.model_validate(
        small_world.config(unlearn=[{"method": name, "finetuning": "full"}])
    )
    with pytest.raises((InputError, UnlearnerError), match=message):
        submissions(config, plugins=[plugin])
    if name == "lossless":
        with pytest.raises(InputError, match="give the file that registers it with --plugin"):
            submissions(config)


@pytest.mark.parametrize(
    "changes",
    [
        {"evaluation": {"subset": "test"}},
        {"evaluation": {"dtype": "bfloat16", "batch_size": 3, "chat_template": True}},
        {"corpora": ["news"], "evaluation": {}},
        {"corpora": ["news"], "evaluation": {"limit": 4}},
    ],
)
def test_promised_cells_are_those_of_the_plan(
    small_world: Any, make: Any, changes: dict[str, Any]
) -> None:
    """Suites, seeds and precisions: 2 references and 2 × (1 + 4 + 4) checkpoints, × 2.

    PrivLeak's zero is the published one where all of News is evaluated, otherwise measured.
    """
    content = small_world.config(
        suites=["scal", "sust"], seeds=[0, 3], precisions=["none", "bnb-int8"]
    )
    config = RunConfig.model_validate(content | changes)
    found = Submission(method="npo_gdr", config=config, plan=make_plan(config))
    plain = make("target")
    records = {
        f"records/{cell.cell.stem}.json": plain.model_copy(update={"cell": cell.cell})
        for planned in found.plan
        for cell in planned.cells
    }
    assert len(records) == 40
    findings = grid_findings(resolved(found), "npo_gdr", records)
    assert [finding for finding in findings if not finding.warning] == []
