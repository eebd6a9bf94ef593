"""Cache folder of derived data, filled entry by entry without partial results."""

from __future__ import annotations

import glob
import hashlib
import os
import platform
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock
from platformdirs import user_cache_path


def cache_dir() -> Path:
    """Return the cache folder: ``LM_EVAL_MUSE_CACHE`` if set, else the user's cache folder."""
    override = os.environ.get("LM_EVAL_MUSE_CACHE")
    return Path(override).expanduser() if override else user_cache_path("lm-eval-muse")


def temporary_prefix(folder: Path) -> str:
    """Return the prefix of temporary folders next to ``folder``, which `build_once` removes."""
    return f".{folder.name}-{platform.node()}-"


def build_once(folder: Path, build: Callable[[Path], None]) -> Path:
    """Return ``folder``, filled by ``build(temporary folder)`` if it does not exist yet.

    The temporary folder is renamed into place, so an interrupted or concurrent build leaves no
    partial entry. Processes of one machine build in turn; temporary folders of killed processes
    are removed.
    """
    if folder.exists():
        return folder
    name = hashlib.sha256(str(folder.absolute()).encode()).hexdigest()[:16]
    prefix = temporary_prefix(folder)
    locks = cache_dir() / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    with FileLock(locks / name):
        if folder.exists():
            return folder
        folder.parent.mkdir(parents=True, exist_ok=True)
        for leftover in folder.parent.glob(f"{glob.escape(prefix)}*"):
            shutil.rmtree(leftover, ignore_errors=True)
        temporary = Path(tempfile.mkdtemp(prefix=prefix, dir=folder.parent))
        try:
            build(temporary)
            temporary.chmod(0o755)
            try:
                temporary.rename(folder)
            except OSError:
                if not folder.exists():  # otherwise another machine built the same entry first
                    raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return folder
