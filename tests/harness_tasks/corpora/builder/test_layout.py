"""Files of a corpus folder, and the folds of its forget set."""

import json
from pathlib import Path

from harness_tasks.corpora.builder.layout import encoded, folds, write_splits


def test_folds_grow_in_one_series_and_divide_in_the_other() -> None:
    """Ends of the folds of ten documents: 2.5, 5, 7.5 and 10; halves are rounded to even."""
    splits = folds("abcdefghij")
    assert splits == {
        "scal/forget_1": "ab",
        "scal/forget_2": "abcde",
        "scal/forget_3": "abcdefgh",
        "scal/forget_4": "abcdefghij",
        "sust/forget_1": "ab",
        "sust/forget_2": "cde",
        "sust/forget_3": "fgh",
        "sust/forget_4": "ij",
    }


def test_bytes_of_a_file() -> None:
    assert encoded(["ä", {"text": "b"}]) == '[\n "ä",\n {\n  "text": "b"\n }\n]\n'.encode()


def test_each_split_has_a_file(tmp_path: Path) -> None:
    write_splits(tmp_path / "new", {"raw/forget": ["a"], "knowmem/forget_qa": [{"answer": "é"}]})
    files = {p.relative_to(tmp_path / "new").as_posix(): p for p in tmp_path.rglob("*.json")}
    assert files.keys() == {"raw/forget.json", "knowmem/forget_qa.json"}
    assert json.loads(files["raw/forget.json"].read_bytes()) == ["a"]
    assert json.loads(files["knowmem/forget_qa.json"].read_bytes()) == [{"answer": "é"}]
