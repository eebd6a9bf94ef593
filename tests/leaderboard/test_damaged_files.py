"""Files of a run that lost bytes, or whose times lie: each has one outcome, none a wrong number."""

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from harness_tasks.cache import build_once, temporary_prefix
from harness_tasks.corpora import load_corpus
from harness_tasks.corpora.demo import demo_corpus_folder
from harness_tasks.errors import CorpusError
from leaderboard.cli import app
from leaderboard.config import RunConfig
from leaderboard.corpora.demo_models import demo_models
from leaderboard.errors import InputError
from leaderboard.execution.runner import Outcome, Runner
from leaderboard.grid.plan import make_plan
from leaderboard.progress import Progress
from leaderboard.records.store import RunFolder, read_records, read_survival
from leaderboard.records.survival import (
    LayerSurvival,
    Rounding,
    SurvivalReport,
    Update,
)

from .conftest import RECIPE, WORLD


def flip(path: Path) -> None:
    """Change one bit in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    """Cut off the last byte."""
    path.write_bytes(path.read_bytes()[:-1])


def run(content: dict[str, Any], folder: Path, progress: Progress) -> Outcome:
    config = RunConfig.model_validate(content)
    with (opened := RunFolder(folder, config.name)).lock():
        return Runner(config, opened, progress).run(make_plan(config))


@pytest.fixture(scope="module")
def finished(
    small_world: Any, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Any], Path]:
    """A grid with one precision, and its folder."""
    config = small_world.config(precisions=["none"])
    folder = tmp_path_factory.mktemp("finished") / "run"
    assert run(config, folder, Progress(Console(quiet=True))) == Outcome(done=3)
    return config, folder


@pytest.fixture
def resumed(finished: tuple[dict[str, Any], Path], tmp_path: Path) -> tuple[dict[str, Any], Path]:
    """A copy of it, and the same grid with a second precision."""
    config, folder = finished
    shutil.copytree(folder, tmp_path / "run")
    return config | {"precisions": ["none", "rtn-int8"]}, tmp_path / "run"


@pytest.mark.parametrize(
    ("keep", "damage"), [("all", flip), ("all", cut), ("all", Path.unlink), ("adapters", flip)]
)
def test_damaged_checkpoint_is_refused(
    resumed: tuple[dict[str, Any], Path], progress: Progress, keep: str, damage: Any
) -> None:
    """One line names file and folder; without the folder, the checkpoint is made again."""
    config, folder = resumed
    run(config | {"precisions": ["none"], "keep": keep}, folder, progress)  # drops what is not kept
    (weights,) = folder.glob("checkpoints/*/[am]*/*model.safetensors")
    assert weights.parent.name == {"all": "model", "adapters": "adapter"}[keep]
    damage(weights)
    with pytest.raises(InputError) as caught:
        run(config, folder, progress)
    assert str(caught.value).startswith(f"{weights} is not as it was saved")
    assert f"delete {weights.parent} to have it made again" in str(caught.value)
    assert len(read_records(folder)) == 5  # of target and retrain, and the one before
    shutil.rmtree(weights.parent)
    assert run(config, folder, progress) == Outcome(done=1, kept=5)


def halve(file: Path) -> None:
    """Cut off the second half."""
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


def flip_a_digit(file: Path) -> None:
    """The last one of the first number; it stays JSON."""
    content = bytearray(file.read_bytes())
    place = content.index(b",")
    assert chr(content[place - 1]).isdigit()
    content[place - 1] ^= 1
    file.write_bytes(content)


def test_damaged_survival_is_refused(
    resumed: tuple[dict[str, Any], Path], progress: Progress
) -> None:
    """One line names the file, whose removal is a way out; the record is not written without it."""
    config, folder = resumed
    (file,) = (folder / "survival").iterdir()
    halve(file)
    with pytest.raises(InputError) as caught:
        run(config, folder, progress)
    assert str(caught.value).startswith(str(file))
    assert "delete it and evaluate the checkpoint again" in str(caught.value)
    assert len(read_records(folder)) == 5  # of target and retrain, and the one before
    result = CliRunner().invoke(app, ["table", str(folder)])
    assert isinstance(result.exception, InputError)
    assert str(result.exception) == str(caught.value)
    file.unlink()
    assert run(config, folder, progress) == Outcome(done=1, kept=5)
    report = read_survival(folder, file.stem)
    assert report is not None and report.total.rounding.keys() == {"rtn-int8"}


def test_survival_of_other_precisions_stays(
    resumed: tuple[dict[str, Any], Path], progress: Progress
) -> None:
    """A precision more: the layers' numbers of the one before are as they were."""
    config, folder = resumed
    run(config, folder, progress)
    (file,) = (folder / "survival").iterdir()
    before = read_survival(folder, file.stem)
    assert run(config | {"precisions": ["rtn-int4"]}, folder, progress) == Outcome(done=3)
    after = read_survival(folder, file.stem)
    assert before is not None and after is not None
    assert after.layers.keys() == before.layers.keys()
    for name, layer in after.layers.items():
        assert layer.rounding.keys() == {"rtn-int4", "rtn-int8"}
        assert layer.rounding["rtn-int8"] == before.layers[name].rounding["rtn-int8"]
        assert layer.update == before.layers[name].update


def test_survival_without_an_update_is_read_back(tmp_path: Path) -> None:
    """A layer that training left alone has no shares, and a weight of zeros no relative norm."""
    update = Update(parameters=4, norm=0.0, relative_norm=None, effective_rank=0.0)
    rounding = Rounding(kept_share=None, noise=None, zeroed_share=None)
    layer = LayerSurvival(update=update, rounding={"rtn-int4": rounding})
    report = SurvivalReport(
        checkpoint="c", total=layer, kinds={"q_proj": layer}, layers={"0.q_proj": layer}
    )
    folder = RunFolder(tmp_path / "run", "small")
    for _ in range(2):  # the second reads what the first has written
        folder.write_survival(report)
    found = read_survival(folder.path, "c")
    assert found == report


def test_times_decide_nothing(resumed: tuple[dict[str, Any], Path], progress: Progress) -> None:
    """A clock set back by decades, then forward: what is recorded stays recorded."""
    config, folder = resumed
    for moment in (0, 4e9):
        for path in folder.rglob("*"):
            os.utime(path, (moment, moment))
        assert run(config | {"precisions": ["none"]}, folder, progress) == Outcome(kept=3)


@pytest.mark.parametrize(
    ("was", "now"),
    [
        (b'"cell"', b'"bell"'),
        (b"}\n", b""),
        (b"{", b"\xfb"),
        (b'"value": ', b'"value": x'),
    ],
)
def test_damaged_record_stops_run_and_table(
    resumed: tuple[dict[str, Any], Path], progress: Progress, was: bytes, now: bytes
) -> None:
    """Before anything is computed; the line names the file, whose removal is a way out."""
    config, folder = resumed
    path = sorted((folder / "records").glob("*--npo_gdr--*"))[0]
    assert was in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(was, now, 1))
    with pytest.raises(InputError) as caught:
        run(config, folder, progress)
    assert str(caught.value).startswith(str(path))
    assert len(list((folder / "records").iterdir())) == 3
    (grid := folder.parent / "grid.yaml").write_text(json.dumps(config))
    for command in (["table", folder], ["verify", path, "--config", grid]):
        result = CliRunner().invoke(app, [str(part) for part in command])
        assert isinstance(result.exception, InputError)
        assert str(result.exception) == str(caught.value)
    path.unlink()
    assert run(config | {"precisions": ["none"]}, folder, progress) == Outcome(done=1, kept=2)


def test_damaged_model_in_the_cache_is_refused(
    small_world: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(os.environ["LM_EVAL_MUSE_CACHE"], tmp_path / "cache")
    monkeypatch.setenv("LM_EVAL_MUSE_CACHE", str(tmp_path / "cache"))
    weights = tmp_path / "cache" / "demo" / small_world.target.name / "model.safetensors"
    assert demo_models(WORLD, RECIPE).target == weights.parent
    flip(weights)
    with pytest.raises(InputError) as caught:
        demo_models(WORLD, RECIPE)
    assert str(caught.value).startswith(f"{weights} is not as it was saved")


@pytest.mark.parametrize("damage", [flip, cut, Path.unlink])
def test_damaged_corpus_in_the_cache_is_generated_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, damage: Any
) -> None:
    """Records of before and after are of one text."""
    monkeypatch.setenv("LM_EVAL_MUSE_CACHE", str(tmp_path))
    corpus = load_corpus(str(demo_corpus_folder(WORLD)))
    whole, text = corpus.fingerprint, corpus.texts("privleak/forget")
    file = Path(corpus.location, "privleak", "forget.json")
    damage(file)
    again = load_corpus(str(demo_corpus_folder(WORLD)))
    assert (again.fingerprint, again.texts("privleak/forget")) == (whole, text)
    assert f"{file} is not as it was generated: written again" in caplog.text
    assert not list(tmp_path.rglob(".*"))
    caplog.clear()
    demo_corpus_folder(WORLD)
    assert not caplog.text


@pytest.mark.parametrize("damage", [flip_a_digit, halve])
def test_damaged_retrain_auc_in_the_cache_is_measured_again(
    small_world: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Any
) -> None:
    """Of the demo; a user's own says so, as its measurement may be long gone."""
    shutil.copytree(os.environ["LM_EVAL_MUSE_CACHE"], tmp_path / "cache")
    monkeypatch.setenv("LM_EVAL_MUSE_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "cache" / "demo" / small_world.corpus.name / "retrain_auc.json"
    whole = file.read_bytes()
    damage(file)
    with pytest.raises(CorpusError, match=r"retrain_auc\.json: "):
        load_corpus(str(file.parent)).retrain_scores  # noqa: B018  # a property
    demo_models(WORLD, RECIPE)
    assert json.loads(file.read_bytes()) == json.loads(whole)


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_read_only_folder_is_one_line(
    resumed: tuple[dict[str, Any], Path],
    progress: Progress,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
) -> None:
    config, folder = resumed

    real = Path.open

    def refuse(*arguments: Any, **keywords: Any) -> Any:
        if "w" in arguments:
            raise OSError(number, os.strerror(number))
        return real(*arguments, **keywords)

    def refuse_lock(lock: Any) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr("filelock.FileLock._acquire", refuse_lock)
        with pytest.raises(InputError, match=r"\.lock: cannot be written: "):
            run(config, folder, progress)
    monkeypatch.setattr(Path, "open", refuse)  # from one moment to the next
    with pytest.raises(InputError, match=r"records/.*: cannot be written: "):
        run(config, folder, progress)


def test_process_killed_while_it_made_the_folder(tmp_path: Path) -> None:
    """A temporary name and no marker: the next run takes the folder, and sweeps."""
    leftover = tmp_path / "run" / ".run.json.x1y2.unfinished"
    leftover.parent.mkdir()
    leftover.touch()
    folder = RunFolder(tmp_path / "run", "small")
    with folder.lock():
        assert sorted(path.name for path in folder.path.iterdir()) == [".lock", "run.json"]


def test_leftovers_of_a_dead_build_are_removed(tmp_path: Path) -> None:
    """Of this entry and made on this machine alone."""
    name = f"{temporary_prefix(tmp_path / 'entry')}1"
    for leftover in (name, ".entry-another.machine-1", ".another-1"):
        (tmp_path / leftover).mkdir()
    build_once(tmp_path / "entry", lambda folder: (folder / "made").touch())
    left = {".another-1", ".entry-another.machine-1", "entry"}
    assert {path.name for path in tmp_path.iterdir()} == left
