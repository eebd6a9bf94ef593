"""Answers beside the records: the scores can be computed from them again."""

import gzip
from pathlib import Path
from typing import Any

import pytest

from leaderboard.config import RunConfig
from leaderboard.errors import InputError
from leaderboard.execution.runner import Runner
from leaderboard.grid.plan import make_plan
from leaderboard.progress import Progress
from leaderboard.records import samples
from leaderboard.records.samples import Sample
from leaderboard.records.store import RunFolder, read_records, read_samples


def test_recompute_by_hand() -> None:
    """ROUGE-L of "a b" and "a b c d" is F(1, 1/2) = 2/3; of equal texts 1: mean 83.33.

    PrivLeak: holdout −1 and −3, forget −2 and −4: 3 of 4 pairs have holdout above, AUC 0.75;
    with a retrain AUC of 0.5 that is +50.
    """
    answers = [
        Sample(task="verbmem", example=0, response="a b", reference="a b c d", score=0),
        Sample(task="verbmem", example=1, response="x", reference="x", score=0),
        Sample(task="privleak", example=0, split="holdout", score=-1),
        Sample(task="privleak", example=1, split="holdout", score=-3),
        Sample(task="privleak", example=2, split="forget", score=-2),
        Sample(task="privleak", example=3, split="forget", score=-4),
    ]
    assert samples.recompute(answers, 0.5) == pytest.approx(
        {"verbmem": 100 * (2 / 3 + 1) / 2, "privleak": 50.0}
    )
    assert "privleak" not in samples.recompute(answers, None)
    assert samples.recompute(answers[:1] + answers[2:4], 0.5).keys() == {"verbmem"}


def test_lines_survive_the_file_and_infinities_too() -> None:
    answers = [
        Sample(task="privleak", example=0, split="forget", score=float("-inf")),
        Sample(task="knowmem", example=1, prompt="Who?", response="", reference="é", score=0.0),
    ]
    lines = samples.encode(answers)
    assert samples.decode(samples.decompress(samples.compress(lines))) == answers
    assert samples.compress(lines) == samples.compress(lines)


@pytest.mark.parametrize("content", [b"no gzip", gzip.compress(b"x" * 1000, mtime=0)[:-12], b""])
def test_broken_files_are_refused(content: bytes) -> None:
    if content:
        with pytest.raises(ValueError, match="gzip"):
            samples.decompress(content)
    else:
        assert samples.decompress(content) == b""


def test_bomb_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "MOST_BYTES", 1000)
    with pytest.raises(ValueError, match="more than 1000 bytes"):
        samples.decompress(gzip.compress(b"0" * 1001, mtime=0))


def test_run_keeps_answers_that_give_its_scores(
    small_world: Any, tmp_path: Path, progress: Progress
) -> None:
    config = RunConfig.model_validate(small_world.config(unlearn=[]))
    folder = RunFolder(tmp_path / "run", config.name)
    Runner(config, folder, progress).run(make_plan(config))
    records = read_records(folder.path)
    assert [record.status for record in records] == ["done"] * 4, records[0].reason
    for record in records:
        again = samples.recompute(read_samples(folder.path, record), record.provenance.retrain_auc)
        assert again == pytest.approx({name: m.value for name, m in record.metrics.items()})

    path = folder.samples_path(records[0].cell)
    path.write_bytes(samples.compress(samples.decompress(path.read_bytes())[:-2] + b"\n"))
    with pytest.raises(InputError, match="SHA-256 differs"):
        read_samples(folder.path, records[0])


def test_answers_can_be_left_out_and_other_tasks_added(
    small_world: Any, tmp_path: Path, progress: Progress
) -> None:
    """An extra task is any that lm-eval knows; here one of our own stands in for arc_easy."""
    settings = {"limit": 6, "log_samples": False, "extra_tasks": ["muse_demo_memorization"]}
    config = RunConfig.model_validate(
        small_world.config(unlearn=[], precisions=["none"], evaluation=settings)
    )
    folder = RunFolder(tmp_path / "run", config.name)
    Runner(config, folder, progress).run(make_plan(config))
    for record in read_records(folder.path):
        assert record.samples is None and not (folder.path / "samples").exists()
        assert record.cell.extra_tasks == ("muse_demo_memorization",)
        found = record.extra["muse_demo_memorization/exact_memorization"]
        assert 0 <= found.value <= 100
        assert read_samples(folder.path, record) == []


def test_unknown_extra_task_names_the_nearest(small_world: Any) -> None:
    config = RunConfig.model_validate(
        small_world.config(evaluation={"extra_tasks": ["muse_demo_memorisation"]})
    )
    with pytest.raises(
        InputError, match="no task 'muse_demo_memorisation'; nearest: muse_demo_mem"
    ):
        make_plan(config)
