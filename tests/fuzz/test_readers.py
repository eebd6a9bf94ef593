"""Readers of untrusted files on a few hundred inputs; `make fuzz-readers` takes minutes."""

import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from leaderboard.submissions.validation import validate

from .readers import Misbehaviour, Readers, mutated, only_reading
from .valid_submission import valid_submission


@pytest.fixture(scope="module")
def readers(tmp_path_factory: pytest.TempPathFactory) -> Readers:
    return Readers(tmp_path_factory.mktemp("fuzz"), valid_submission())


def test_the_submission_is_valid(readers: Readers) -> None:
    assert validate(readers.submission).problems == []


def test_seeds_and_mutations(readers: Readers) -> None:
    """Every reader ends in a result or in its own error."""
    rng = random.Random(0)
    kinds: Counter[bool] = Counter()
    for seed in readers.seeds():
        readers.read(seed)
        for _ in range(10):
            content = mutated(seed[1:], rng)
            kinds[content is not None] += 1
            if content is not None:
                readers.read(seed[:1] + content)
    assert kinds[True] > 100
    assert validate(readers.submission).problems == []  # every file is restored


def test_anything_but_reading_is_noticed(tmp_path: Path) -> None:
    for act in (
        (tmp_path / "new").touch,
        (tmp_path / "new").mkdir,
        tmp_path.rmdir,
        lambda: subprocess.run([sys.executable, "--version"], check=True),
        lambda: __import__("antigravity_of_this_name"),
    ):
        with pytest.raises(Misbehaviour), only_reading():
            act()
    assert list(tmp_path.iterdir()) == []


def test_slow_readers_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter([0.0, 2.5])
    with monkeypatch.context() as patch, pytest.raises(Misbehaviour, match=r"2\.5 s"):
        patch.setattr(time, "process_time", lambda: next(moments))
        with only_reading():
            pass
