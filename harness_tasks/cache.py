"""Where derived data is kept: one folder per user, entries made whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from platformdirs import user_cache_path


def cache_dir() -> Path:
    """The cache folder: ``LM_EVAL_MUSE_CACHE`` where set, else the user's cache folder."""
    override = os.environ.get("LM_EVAL_MUSE_CACHE")
    return Path(override).expanduser() if override else user_cache_path("lm-eval-muse")


def build_once(folder: Path, build: Callable[[Path], None]) -> Path:
    """Return ``folder``, filled by ``build(temporary folder)`` if it does not exist yet.

    The temporary folder is renamed into place, so that an interrupted or concurrent build
    never leaves half an entry.
    """
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
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
