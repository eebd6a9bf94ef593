"""Bounded readers of untrusted files: nothing is run, and every refusal is ``UnsafeError``."""

from __future__ import annotations

import os
import pickletools
import stat
from collections.abc import Iterator
from pathlib import Path

from .escaping import visible

_LAYOUT = "\n\r\t"


class UnsafeError(ValueError):
    """An untrusted file is refused; the message is one line."""


def to_ascii_line(text: str, longest: int = 500) -> str:
    """Make text safe for a terminal: one line of ASCII, with escapes for other characters."""
    return short(text, longest).encode("unicode_escape").decode("ascii")


def short(text: str, longest: int = 100) -> str:
    """Truncate text to ``longest`` characters."""
    return text if len(text) <= longest else text[:longest] + "..."


def list_files(folder: Path, limit: int) -> Iterator[tuple[str, os.stat_result]]:
    """List a folder and the folders directly in it, without following links.

    Args:
        folder: The folder. It may be a link itself.
        limit: Largest number of entries.

    Yields:
        Path of an entry from ``folder``, with ``/`` at the end for a folder, and its status.

    Raises:
        UnsafeError: There are more entries, or a folder cannot be read.
    """
    count = 0
    remaining = [""]
    while remaining:
        parent = remaining.pop()
        try:
            with os.scandir(folder / parent) as entries:
                for entry in entries:
                    count += 1
                    if count > limit:
                        raise UnsafeError(f"more than {limit} files and folders")
                    status = entry.stat(follow_symlinks=False)
                    is_folder = stat.S_ISDIR(status.st_mode)
                    yield f"{parent}{entry.name}{'/' * is_folder}", status
                    if is_folder and not parent:
                        remaining.append(f"{entry.name}/")
        except OSError as error:
            raise UnsafeError(
                f"{parent or 'the folder'} cannot be listed: {error.strerror}"
            ) from error


def read_bytes(folder: Path, name: str, limit: int) -> bytes:
    """Read a regular file.

    Args:
        folder: The submission.
        name: Path of the file in it.
        limit: Largest number of bytes.

    Raises:
        UnsafeError: The file is a link, a hard link, a device, too large, or cannot be read.
    """
    try:
        # without O_NONBLOCK, opening a pipe would wait for its other end
        descriptor = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UnsafeError(f"cannot be opened: {reason}") from error
    if problem := kind(os.fstat(descriptor)):
        os.close(descriptor)
        raise UnsafeError(problem)
    with os.fdopen(descriptor, "rb") as file:
        try:
            content = file.read(limit + 1)
        except OSError as error:
            raise UnsafeError(f"cannot be read: {error.strerror}") from error
    if len(content) > limit:
        raise UnsafeError(f"more than {limit} bytes")
    return content


def kind(status: os.stat_result) -> str | None:
    """Name the problem with a folder's entry that is not a regular file; None for one that is."""
    if stat.S_ISLNK(status.st_mode):
        return "a symbolic link"
    if not stat.S_ISREG(status.st_mode):
        return "not a regular file"
    if status.st_nlink > 1:
        return "a hard link: the file has a second name"
    return None


def read_text(content: bytes) -> str:
    """Decode UTF-8 text without invisible characters.

    Raises:
        UnsafeError: The content is not UTF-8, has an invisible character, or is a pickle of
            protocol 0, which is ASCII.
    """
    if _is_text_pickle(content.rstrip()):
        raise UnsafeError("is a pickle")
    text = decode(content)
    refuse_marks(text)
    return text


def decode(content: bytes) -> str:
    """Decode UTF-8.

    Raises:
        UnsafeError: The content is not UTF-8.
    """
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UnsafeError(f"not UTF-8: byte {error.start}: {error.reason}") from error


def _is_text_pickle(content: bytes) -> bool:
    """Return True if the content is a sequence of pickle opcodes up to STOP; load nothing."""
    if len(content) < 2 or not content.endswith(b"."):
        return False
    try:
        *_, (_, _, position) = pickletools.genops(content)
    except Exception:  # readers of opcodes raise errors of any type
        return False
    return position == len(content) - 1


def refuse_marks(text: str) -> None:
    """Refuse invisible characters: controls, bidirectional and zero-width marks, fillers.

    Raises:
        UnsafeError: There is one; the message has its line and code point.
    """
    if visible(text, keep=_LAYOUT) == text:
        return
    for number, line in enumerate(text.splitlines(keepends=True), 1):
        for character in line:
            if visible(character, keep=_LAYOUT) != character:
                raise UnsafeError(f"line {number}: the invisible character U+{ord(character):04X}")
