"""Entries of the cache: built once, whole or not at all."""

import threading
import time
from pathlib import Path

import pytest

from harness_tasks.cache import build_once, cache_dir


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LM_EVAL_MUSE_CACHE", str(tmp_path / "cache"))
    return cache_dir()


def test_folder_of_the_variable(tmp_path: Path) -> None:
    assert cache_dir() == tmp_path / "cache"


def test_failed_build_leaves_nothing(cache: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").touch()
        raise RuntimeError

    with pytest.raises(RuntimeError):
        build_once(cache / "entry", fail)
    assert [path.name for path in cache.iterdir()] == ["locks"]


def test_existing_entry_is_left_alone(cache: Path) -> None:
    build_once(cache / "entry", lambda folder: (folder / "a").touch())
    build_once(cache / "entry", lambda folder: (folder / "b").touch())
    assert [path.name for path in (cache / "entry").iterdir()] == ["a"]


def test_concurrent_builds_are_one(cache: Path) -> None:
    built = []

    def build(folder: Path) -> None:
        built.append(folder)
        time.sleep(0.2)

    threads = [threading.Thread(target=build_once, args=(cache / "x", build)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(built) == 1
