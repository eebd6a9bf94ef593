"""Reading files that a stranger has made: bounded, strict, and without running anything.

Whatever the content is, the outcome is a plain value or one ``Unsafe`` that says what is wrong.
"""

from __future__ import annotations

import os
import pickletools
import stat
from collections.abc import Iterator
from pathlib import Path

from .escaping import visible

_LAYOUT = "\n\r\t"


class Unsafe(ValueError):
    """A file is not what it may be; the message is one line."""


def harmless(text: str, longest: int = 500) -> str:
    """Make text safe for a terminal: ASCII, one line, cut at ``longest`` characters.

    Look-alike letters, marks that reverse the direction and control sequences become visible
    escapes.
    """
    return short(text, longest).encode("unicode_escape").decode("ascii")


def short(text: str, longest: int = 100) -> str:
    """Cut a text, so that the rest of a message is still seen."""
    return text if len(text) <= longest else text[:longest] + "..."


def list_files(folder: Path, most: int) -> Iterator[tuple[str, os.stat_result]]:
    """List everything in a folder and in the folders directly below it.

    Args:
        folder: followed where it is a link itself; no link below it is.
        most: largest number of entries.

    Yields:
        path from ``folder``, with ``/`` at the end for a folder, and its status.

    Raises:
        Unsafe: more entries than that, or a folder that cannot be read.
    """
    seen = 0
    waiting = [""]
    while waiting:
        inside = waiting.pop()
        try:
            with os.scandir(folder / inside) as found:
                for entry in found:
                    seen += 1
                    if seen > most:
                        raise Unsafe(f"more than {most} files and folders")
                    status = entry.stat(follow_symlinks=False)
                    if not stat.S_ISDIR(status.st_mode):
                        yield f"{inside}{entry.name}", status
                        continue
                    yield f"{inside}{entry.name}/", status
                    if not inside:
                        waiting.append(f"{entry.name}/")
        except OSError as error:
            raise Unsafe(f"{inside or 'the folder'} cannot be listed: {error.strerror}") from error


def read_bytes(folder: Path, name: str, most: int) -> bytes:
    """Read a regular file that has no second name elsewhere.

    Args:
        folder: the submission.
        name: path of the file in it.
        most: largest number of bytes.

    Raises:
        Unsafe: a link, a device, a file with a second name elsewhere, a larger or unreadable one.
    """
    try:
        # without O_NONBLOCK, opening a pipe would wait for its other end
        descriptor = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise Unsafe(f"cannot be opened: {reason}") from error
    with os.fdopen(descriptor, "rb") as file:
        if problem := kind(os.fstat(descriptor)):
            raise Unsafe(problem)
        try:
            content = file.read(most + 1)
        except OSError as error:
            raise Unsafe(f"cannot be read: {error.strerror}") from error
    if len(content) > most:
        raise Unsafe(f"more than {most} bytes")
    return content


def kind(status: os.stat_result) -> str | None:
    """Problem with an entry of a folder, from its status; None for a regular file."""
    if stat.S_ISLNK(status.st_mode):
        return "a symbolic link"
    if not stat.S_ISREG(status.st_mode):
        return "not a regular file"
    if status.st_nlink > 1:
        return "a hard link: the file has a second name"
    return None


def read_text(content: bytes) -> str:
    """Decode UTF-8 text without marks that hide or reorder it.

    Raises:
        Unsafe: other bytes, such a mark, or a pickle of protocol 0, which is ASCII.
    """
    if _is_text_pickle(content.rstrip()):
        raise Unsafe("is a pickle")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Unsafe(f"not UTF-8: byte {error.start}: {error.reason}") from error
    refuse_marks(text)
    return text


def _is_text_pickle(content: bytes) -> bool:
    """Return True if all of the content is pickle opcodes up to STOP; nothing is loaded."""
    if len(content) < 2 or not content.endswith(b"."):
        return False
    try:
        *_, (_, _, position) = pickletools.genops(content)
    except Exception:  # whatever an opcode's own reader raises
        return False
    return position == len(content) - 1


def refuse_marks(text: str) -> None:
    """Refuse characters that nobody sees: controls, bidirectional and zero-width marks, fillers.

    Raises:
        Unsafe: naming the first one, by its code point.
    """
    if visible(text, keep=_LAYOUT) == text:
        return
    for number, line in enumerate(text.splitlines(keepends=True), 1):
        for character in line:
            if visible(character, keep=_LAYOUT) != character:
                raise Unsafe(f"line {number}: the invisible character U+{ord(character):04X}")
