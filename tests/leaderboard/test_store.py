import multiprocessing
from pathlib import Path
from typing import Any

import pytest

from leaderboard.errors import InputError
from leaderboard.store import RunFolder, read_records, record_path, write_atomically


def test_a_record_is_never_overwritten(tmp_path: Path, make: Any) -> None:
    folder = RunFolder(tmp_path / "run", "small")
    first = make("npo", values=(1.0, 1.0, 1.0, 1.0))
    path = folder.write_record(first)
    again = folder.write_record(make("npo", values=(2.0, 2.0, 2.0, 2.0)))
    assert path == again
    assert read_records(folder.path) == [first]
    assert [p.name for p in path.parent.iterdir()] == [path.name]  # no temporary file is left


def test_another_setting_is_another_file(tmp_path: Path, make: Any) -> None:
    folder = RunFolder(tmp_path / "run", "small")
    names = {
        record_path(folder.path, make("npo", settings={"epochs": n}).cell).name for n in (1, 2)
    }
    assert len(names) == 2
    assert all(name.startswith("news--npo--full--bf16--seed0--") for name in names)


def test_interrupted_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="No space"):
        write_atomically(tmp_path / "record.json", "{}")
    assert list(tmp_path.iterdir()) == []


def test_folder_of_another_run_is_refused(tmp_path: Path) -> None:
    RunFolder(tmp_path / "run", "small")
    RunFolder(tmp_path / "run", "small")
    with pytest.raises(InputError, match="holds the run 'small', not 'other'"):
        RunFolder(tmp_path / "run", "other")


def test_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(InputError, match="not empty"):
        RunFolder(tmp_path, "small")
    with pytest.raises(InputError, match="not empty"):
        RunFolder(tmp_path / "thesis.tex", "small")


def _try_to_lock(folder: Path, answers: Any) -> None:
    try:
        with RunFolder(folder, "small").lock():
            answers.put("locked")
    except InputError as error:
        answers.put(str(error))


def test_second_process_is_refused(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    folder = RunFolder(tmp_path / "run", "small")
    for held in (True, False):
        process = context.Process(target=_try_to_lock, args=(folder.path, answers))
        if held:
            with folder.lock():
                process.start()
                process.join()
        else:
            process.start()
            process.join()
        answer = answers.get(timeout=10)
        assert ("another process" in answer) == held


def test_bad_records_are_named(tmp_path: Path, make: Any) -> None:
    with pytest.raises(InputError, match="no records found"):
        read_records(tmp_path)
    folder = RunFolder(tmp_path / "run", "small")
    path = folder.write_record(make("npo"))
    path.write_text(path.read_text().replace('"status": "done"', '"status": "fine"'))
    with pytest.raises(InputError, match=r"seed0--.*\.json: not a record: status"):
        read_records(folder.path)
