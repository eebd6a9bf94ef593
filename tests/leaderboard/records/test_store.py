import hashlib
import json
import multiprocessing
from collections import Counter
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from harness_tasks import json_checksum
from leaderboard.errors import InputError
from leaderboard.records.schema import Metric, Record
from leaderboard.records.store import (
    RunFolder,
    read_record,
    read_records,
    record_path,
    write_atomically,
)


def test_a_record_is_never_overwritten(tmp_path: Path, make: Any) -> None:
    folder = RunFolder(tmp_path / "run", "small")
    first = make("npo", values=(1.0, 1.0, 1.0, 1.0))
    path = folder.write_record(first)
    again = folder.write_record(make("npo", values=(2.0, 2.0, 2.0, 2.0)))
    assert path == again
    assert [r.model_copy(update={"sha256": None}) for r in read_records(folder.path)] == [first]
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


def test_record_under_another_name_is_refused(tmp_path: Path, make: Any) -> None:
    path = RunFolder(tmp_path / "run", "small").write_record(make("npo"))
    path.rename(path.with_stem(path.stem[:-1]))
    with pytest.raises(InputError, match=r"is of another cell than its name says: news--npo--"):
        read_records(tmp_path / "run")


def test_seal_by_hand() -> None:
    r"""Of ``{"b": 1.5, "a": "é"}`` the canonical JSON is ``{"a":"\u00e9","b":1.5}``."""
    content = {"b": 1.5, "a": "é"}
    wanted = hashlib.sha256(b'{"a":"\\u00e9","b":1.5}').hexdigest()
    assert json_checksum.digest(content) == wanted
    assert json_checksum.sealed(content) == content | {"sha256": wanted}
    assert (
        json_checksum.digest(json_checksum.sealed(content)) == wanted
    )  # its own place is no part of it


@pytest.mark.parametrize(
    "value", [0.1 + 0.2, 5e-324, 1.7976931348623157e308, 1e16, 1e-5, 123456789.0, -0.0, 1 / 3]
)
def test_numbers_keep_their_seal(tmp_path: Path, make: Any, value: float) -> None:
    """Pydantic and Python write some numbers in other digits (``1e-5``, ``1e-05``)."""
    record = make("npo").model_copy(update={"extra": {"x": Metric(value=value, stderr=None)}})
    found = read_record(RunFolder(tmp_path / "run", "small").write_record(record))
    assert found.sha256 is not None
    assert repr(found.extra["x"].value) == repr(value)
    again = RunFolder(tmp_path / "other", "small").write_record(found)
    assert read_record(again) == found


def test_record_without_seal_is_read(tmp_path: Path, make: Any) -> None:
    """As earlier versions wrote them."""
    path = tmp_path / "record.json"
    record = make("npo")
    path.write_text(record.model_dump_json(exclude={"sha256"}, indent=1))
    assert read_record(path) == record


def test_layout_of_a_record_does_not_matter(tmp_path: Path, make: Any) -> None:
    path = RunFolder(tmp_path / "run", "small").write_record(make("npo"))
    record = read_record(path)
    path.write_text(json.dumps(json.loads(path.read_text()), sort_keys=True))
    assert read_record(path) == record


def test_any_flipped_bit_is_noticed(tmp_path: Path, make: Any) -> None:
    """Refused in one line; else the last of many digits changed, which gives the same number."""
    path = RunFolder(tmp_path / "run", "small").write_record(
        make("npo", values=(0.1 + 0.2, 50.0, -12.5, 1e-5))
    )
    whole, record = path.read_bytes(), read_record(path)
    noticed: Counter[bool] = Counter()
    for place, bit in product(range(len(whole)), range(8)):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << bit
        path.write_bytes(flipped)
        try:
            assert read_record(path) == record
        except InputError as error:
            assert str(path) in str(error)
            noticed["is not as it was written" in str(error)] += 1
    assert noticed.total() > 0.99 * 8 * len(whole)
    assert noticed[True] > 1000  # the rest is no record any more, and told as such


def test_flipped_values_need_the_seal(tmp_path: Path, make: Any) -> None:
    """A digit, a sign, a status: each gives a valid record, which is another."""
    path = RunFolder(tmp_path / "run", "small").write_record(make("npo"))
    whole = path.read_text()
    for was, now in (
        ('"value": 80.0', '"value": 90.0'),
        ('"value": -50.0', '"value": 50.0'),
        ('"status": "done"', '"status": "failed"'),
        ('"reason": null', '"reason": "x"'),
        ('"created": "2026', '"created": "2027'),
    ):
        assert whole.count(was) == 1
        Record.model_validate_json(whole.replace(was, now))
        path.write_text(whole.replace(was, now))
        with pytest.raises(InputError, match=r"is not as it was written .*restore it, or delete"):
            read_record(path)
