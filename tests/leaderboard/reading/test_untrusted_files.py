"""Bounded reading of untrusted files."""

import os
from pathlib import Path

import pytest

from leaderboard.reading.untrusted_files import (
    UnsafeError,
    list_files,
    read_bytes,
    read_text,
    short,
    to_ascii_line,
)


def link(path: Path) -> None:
    path.symlink_to("/etc/passwd")


def hard_link(path: Path) -> None:
    (path.parent / "other").touch()
    path.hardlink_to(path.parent / "other")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (link, "cannot be opened"),
        (hard_link, "a hard link"),
        (os.mkfifo, "not a regular file"),
        (Path.mkdir, "not a regular file"),
        (lambda path: path.write_bytes(b"12345"), "more than 4 bytes"),
        (lambda path: None, "cannot be opened: No such file"),
    ],
)
def test_only_small_regular_files_are_read(tmp_path: Path, make: object, message: str) -> None:
    make(tmp_path / "file")  # type: ignore[operator]
    with pytest.raises(UnsafeError, match=message):
        read_bytes(tmp_path, "file", 4)


def test_limit_is_inclusive(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"1234")
    assert read_bytes(tmp_path, "file", 4) == b"1234"


def test_listing_is_two_levels_deep_and_bounded(tmp_path: Path) -> None:
    (tmp_path / "a" / "b" / "c").mkdir(parents=True)
    (tmp_path / "a" / "file").touch()
    (tmp_path / "d").symlink_to(tmp_path / "a")
    assert sorted(name for name, _ in list_files(tmp_path, 9)) == ["a/", "a/b/", "a/file", "d"]
    with pytest.raises(UnsafeError, match="more than 3 files"):
        list(list_files(tmp_path, 3))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff", "not UTF-8: byte 0"),
        ("a\nb\u202e".encode(), r"line 2: the invisible character U\+202E"),
        (b"cos\nsystem\n(S'true'\ntR.", "is a pickle"),
    ],
)
def test_text_is_what_one_sees(content: bytes, message: str) -> None:
    with pytest.raises(UnsafeError, match=message):
        read_text(content)


def test_text_for_messages() -> None:
    assert to_ascii_line("a\x1b[31m\né") == r"a\x1b[31m\n\xe9"
    assert short("abcdef", 3) == "abc..."
    assert short("abc", 3) == "abc"
