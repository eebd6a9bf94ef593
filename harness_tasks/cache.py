"""Where derived data is kept: one folder per user, entries made whole or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from platformdirs import user_cache_path


def cache_dir() -> Path:
    """The cache folder: ``LM_EVAL_MUSE_CACHE`` where set, else the user's cache folder."""
    override = os.environ.get("LM_EVAL_MUSE_CACHE")
    return Path(override).expanduser() if override else user_cache_path("lm-eval-muse")


def build_once(folder: Path, build: Callable[[Path], None]) -> Path:
    """Return ``folder``, filled by ``build(temporary folder)`` if it does not exist yet.

    The temporary folder is renamed into place, so that an interrupted or concurrent build
    never leaves half an entry. What a killed process has left of one is removed.
    """
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        with _locked(folder.parent):
            _sweep(folder)
            temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
            stack.enter_context(_locked(temporary))
        try:
            build(temporary)
            temporary.chmod(0o755)
            try:
                temporary.rename(folder)
            except OSError:
                if not folder.exists():  # else another process built the same entry first
                    raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _sweep(folder: Path) -> None:
    """Remove temporary folders of an entry that nobody builds in any more."""
    for leftover in folder.parent.glob(f".{folder.name}-*"):
        with contextlib.suppress(FileNotFoundError), _locked(leftover, fcntl.LOCK_NB) as free:
            if free:
                shutil.rmtree(leftover, ignore_errors=True)


@contextlib.contextmanager
def _locked(folder: Path, flags: int = 0) -> Iterator[bool]:
    """Hold a lock on a folder, which ends with the process.

    Yields:
        whether it is held: not if another process has it, or on NFS, which locks no folders.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | flags)
            held = True
        except OSError:
            held = False
        yield held
    finally:
        os.close(descriptor)
