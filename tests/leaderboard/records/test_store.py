import json
import multiprocessing
from pathlib import Path
from typing import Any

import pytest

from leaderboard.errors import InputError
from leaderboard.records.schema import Metric
from leaderboard.records.store import (
    RunFolder,
    read_record,
    read_records,
    record_path,
)
from unlearners.files import write_new


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
    assert all(name.startswith("news--npo--full--none--seed0--") for name in names)


def test_interrupted_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="No space"):
        write_new(tmp_path / "record.json", "{}")
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


def test_record_under_another_name_is_refused(tmp_path: Path, make: Any) -> None:
    path = RunFolder(tmp_path / "run", "small").write_record(make("npo"))
    path.rename(path.with_stem(path.stem[:-1]))
    with pytest.raises(InputError, match=r"is of another cell than its name says: news--npo--"):
        read_records(tmp_path / "run")


@pytest.mark.parametrize(
    "value", [0.1 + 0.2, 5e-324, 1.7976931348623157e308, 1e16, 1e-5, 123456789.0, -0.0, 1 / 3]
)
def test_numbers_are_read_as_they_were_written(tmp_path: Path, make: Any, value: float) -> None:
    """Pydantic and Python write some numbers in other digits (``1e-5``, ``1e-05``)."""
    record = make("npo").model_copy(update={"extra": {"x": Metric(value=value, stderr=None)}})
    found = read_record(RunFolder(tmp_path / "run", "small").write_record(record))
    assert repr(found.extra["x"].value) == repr(value)
    again = RunFolder(tmp_path / "other", "small").write_record(found)
    assert read_record(again) == found


def test_record_with_a_checksum_is_read(tmp_path: Path, make: Any) -> None:
    """As earlier versions wrote them."""
    path = tmp_path / "record.json"
    record = make("npo")
    path.write_text(json.dumps(json.loads(record.model_dump_json()) | {"sha256": "0" * 64}))
    assert read_record(path) == record


def test_layout_of_a_record_does_not_matter(tmp_path: Path, make: Any) -> None:
    path = RunFolder(tmp_path / "run", "small").write_record(make("npo"))
    record = read_record(path)
    path.write_text(json.dumps(json.loads(path.read_text()), sort_keys=True))
    assert read_record(path) == record
