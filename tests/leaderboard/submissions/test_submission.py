"""Packing of submissions, and refusals before anything is run."""

from __future__ import annotations

import json
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from leaderboard.cli import app
from leaderboard.config import RunConfig
from leaderboard.corpora.corpus import PUBLISHED_MODELS
from leaderboard.errors import InputError
from leaderboard.grid.plan import make_plan
from leaderboard.grid.sweep import SweepConfig
from leaderboard.records.schema import REFERENCES
from leaderboard.records.store import RunFolder, read_records
from leaderboard.submissions import packing
from leaderboard.submissions.card import submission_card
from leaderboard.submissions.collection import collect
from leaderboard.submissions.grid_checks import grid_findings
from leaderboard.submissions.packing import failures, pack
from leaderboard.submissions.submission import Submission, resolved, submissions
from unlearners import UnlearnerError


def load(packed: Any) -> RunConfig:
    return RunConfig.model_validate(yaml.safe_load(packed.config.read_text()))


def submission(packed: Any, method: str = "bounded_ascent", **changes: Any) -> Submission:
    """Submission as the command builds it, without the check of the contract."""
    config = load(packed)
    return Submission(
        **{
            "method": method,
            "config": config,
            "plan": [p for p in make_plan(config) if p.training.method in (*REFERENCES, method)],
            "plugins": (packed.plugin,),
            **changes,
        }
    )


def test_pack_holds_the_method_its_references_and_nothing_else(packed: Any) -> None:
    names = [path.relative_to(packed.folder).as_posix() for path in packed.folder.rglob("*.*")]
    stems = sorted(path.stem for path in (packed.run / "records").glob("*.json"))
    assert len(stems) == 6, "other methods of the grid are not even run"
    assert sorted(names) == sorted(
        ["README.md", "config.yaml", "manifest.json", "source/bounded_ascent.py"]
        + [f"records/{stem}.json" for stem in stems]
        + [f"samples/{stem}.jsonl.gz" for stem in stems]
    )
    assert (packed.folder / "source/bounded_ascent.py").read_text() == packed.plugin.read_text()
    manifest = json.loads((packed.folder / "manifest.json").read_text())
    assert manifest["cells"] == stems
    assert read_records(packed.folder) == read_records(packed.run)


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


def test_readme_says_what_was_done_and_what_came_out(packed: Any) -> None:
    readme = (packed.folder / "README.md").read_text()
    assert readme.startswith("# bounded\\_ascent\n")
    assert "````text\nGradient ascent on the forget set, up to a bound: `limit` nats" in readme
    assert "| method: limit | 5.0 |" in readme
    assert "| finetuning: alpha | 32 |" in readme
    assert "No sweep is part of this submission" in readme
    assert (
        "lm-eval-muse run config.yaml --out ../repeated --plugin source/bounded_ascent.py" in readme
    )
    assert f"| torch | {version('torch')} |" in readme
    for row in (
        "target | — | float32",
        "retrain | — | rtn-int4",
        "bounded\\_ascent | lora | rtn-int4",
    ):
        assert f"| {row} | " in readme


def test_hostile_text_in_a_readme_is_shown(make: Any) -> None:
    """Method and docstring that would break out of Markdown and HTML."""
    readme = submission_card(
        method="<script>|",
        documentation="a\n```\n# not a title",
        source="x",
        plugins=[],
        entries=[],
        searched=[],
        local=[],
        records=[make("<img src=x>")],
    )
    assert "<script>" not in readme and "<img" not in readme
    assert "````text\na\n```\n# not a title\n````" in readme


@pytest.fixture
def trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip the contract check, which the methods passed when the fixture was built."""
    monkeypatch.setattr("leaderboard.submissions.submission.check_contract", lambda *_, **__: None)


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_submitting_again_runs_nothing_and_overwrites_nothing(
    packed: Any, trusted: None, tmp_path: Path
) -> None:
    options = ("--config", packed.config, "--plugin", packed.plugin, "--run", packed.run)
    before = {path: path.stat().st_mtime_ns for path in packed.run.rglob("*.json")}
    first = run("submit", *options, "--out", tmp_path)
    assert first.exit_code == 0, first.output
    assert {path: path.stat().st_mtime_ns for path in packed.run.rglob("*.json")} == before
    for path in packed.folder.rglob("*.*"):
        again = tmp_path / "bounded_ascent" / path.relative_to(packed.folder)
        assert again.read_bytes() == path.read_bytes(), "the same records give the same submission"
    second = run("submit", *options, "--out", tmp_path)
    assert isinstance(second.exception, InputError)
    assert "already exists; choose another --out" in str(second.exception)


def test_method_of_a_package_is_named_with_its_version(
    packed: Any, trusted: None, tmp_path: Path
) -> None:
    """Built-in method as an example; its two cells are added to the run."""
    copy = shutil.copytree(packed.run, tmp_path / "run")
    options = ("--config", packed.config, "--plugin", packed.plugin, "--run", copy)
    result = run("submit", *options, "--method", "npo_gdr", "--out", tmp_path)
    assert result.exit_code == 0, result.output
    folder = tmp_path / "npo_gdr"
    assert json.loads((folder / "source" / "package.json").read_text()) == {
        "distribution": "lm-eval-muse",
        "version": version("lm-eval-muse"),
    }
    found = sorted(record.cell.training.method for record in read_records(folder))
    assert found == ["npo_gdr"] * 2 + ["retrain"] * 2 + ["target"] * 2

    board = tmp_path / "board"
    lines = list(collect([packed.folder, folder], board))
    assert lines == [
        f"{packed.folder}: 6 of 6 records taken",
        f"{folder}: 2 of 6 records taken",
    ]
    assert len(read_records(board)) == 8
    assert run("table", board).exit_code == 0
    assert "npo\\_gdr | lora" in (board / "table.md").read_text()
    assert "bounded\\_ascent | lora" in (board / "table.md").read_text()
    assert list(collect([folder], board)) == [f"{folder}: 0 of 6 records taken"]


def test_different_metrics_are_reported(packed: Any, tmp_path: Path) -> None:
    """Cell from two machines: the recorded one is kept."""
    other = RunFolder(tmp_path / "board", "board")
    records = read_records(packed.folder)
    changed = records[0].model_copy(update={"metrics": {}})
    other.write_record(changed)
    lines = list(collect([packed.folder], tmp_path / "board"))
    assert lines == [
        f"{packed.folder}: metrics of {changed.cell.stem} differ; kept the recorded ones",
        f"{packed.folder}: 5 of 6 records taken",
    ]


def test_only_valid_ones_are_collected(packed: Any, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(packed.folder, tmp_path / "broken"))
    (broken / "README.md").unlink()
    with pytest.raises(InputError, match=r"broken is not valid \(problem: README.md: is missing\)"):
        list(collect([packed.folder, broken], tmp_path / "board"))
    assert not (tmp_path / "board").exists()


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


def test_failed_cell_is_named_and_not_packed(packed: Any, trusted: None, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(packed.run, tmp_path / "run"))
    path = next((copy / "records").glob("*--lora--none--*"))
    record = json.loads(path.read_text())
    record |= {"status": "failed", "reason": "out of memory", "metrics": {}, "samples": None}
    path.write_text(json.dumps(record))
    found = submission(packed)
    assert failures(found, copy) == [f"{path.stem} failed: out of memory"]
    options = ("--config", packed.config, "--plugin", packed.plugin, "--run", copy)
    result = run("submit", *options, "--out", tmp_path)
    assert result.exit_code == 1
    assert not (tmp_path / "bounded_ascent").exists()
    with pytest.raises(InputError, match=r"not fit for a submission: .*: status: failed"):
        pack(found, copy, tmp_path / "pack")
    path.unlink()
    with pytest.raises(InputError, match=r"no record of .*; run the grid to its end"):
        pack(found, copy, tmp_path / "pack")
    assert not (tmp_path / "pack").exists()


def test_interrupted_packing_leaves_nothing(
    packed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(folder: Path) -> None:
        assert (folder / "manifest.json").exists()
        raise KeyboardInterrupt

    monkeypatch.setattr(packing, "validate", interrupt)
    with pytest.raises(KeyboardInterrupt):
        pack(submission(packed), packed.run, tmp_path / "packs" / "bounded_ascent")
    assert list((tmp_path / "packs").iterdir()) == []


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
