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

ARCHIVES = {
    b"PK\x03\x04": "a zip archive (as torch.save writes)",
    b"PK\x05\x06": "an empty zip archive",
    b"\x1f\x8b": "gzip",
    b"\x93NUMPY": "a numpy array",
    b"\x89HDF": "an HDF5 file",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "zstandard",
}

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


def refuse_pickle(content: bytes) -> None:
    """Refuse serialized objects and archives, whatever their name is.

    Nothing is loaded: the opcodes of a pickle are only listed.

    Raises:
        Unsafe: content that begins as one of them does.
    """
    for magic, what in ARCHIVES.items():
        if content.startswith(magic):
            raise Unsafe(f"is {what}")
    if content[:1] == b"\x80" or _lists_as_pickle(content):
        raise Unsafe("is a pickle")


def _lists_as_pickle(content: bytes) -> bool:
    """True where all of the content is opcodes up to STOP."""
    stripped = content.rstrip()
    if not stripped.endswith(b".") or len(stripped) < 2:
        return False
    try:
        for _opcode, _argument, position in pickletools.genops(stripped):
            last = position
    except Exception:  # whatever an opcode's own reader raises
        return False
    return last == len(stripped) - 1


def read_text(content: bytes) -> str:
    """Decode UTF-8 text without marks that hide or reorder it.

    Raises:
        Unsafe: other bytes, or such a mark.
    """
    refuse_pickle(content)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Unsafe(f"not UTF-8: byte {error.start}: {error.reason}") from error
    refuse_marks(text)
    return text


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
