"""Methods and quantizers from a local file: ``--plugin my_method.py``."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import traceback
from collections.abc import Mapping
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any

from .errors import USER_ERRORS, InputError
from .interrupts import Stopped


class _Uncached(SourceFileLoader):
    """Loader that ignores cached bytecode, which may be that of an older file."""

    def path_stats(self, path: str) -> Mapping[str, Any]:
        raise OSError


def load_plugin(path: Path) -> None:
    """Import a Python file once in a process; its decorators register what it defines.

    Raises:
        InputError: There is no such file, or its import fails.
    """
    if not path.is_file() or path.suffix != ".py":
        raise InputError(f"--plugin {path}: no such Python file")
    try:
        content = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(f"--plugin {path}: cannot be read: {error.strerror}") from error
    name = f"lm_eval_muse_plugin_{path.stem}_{content[:8]}"
    if name in sys.modules:
        return
    loader = _Uncached(name, str(path))
    spec = importlib.util.spec_from_loader(name, loader)
    if spec is None:
        raise InputError(f"--plugin {path}: cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    try:
        loader.exec_module(module)
    except (*USER_ERRORS, Stopped):
        sys.modules.pop(name, None)
        raise
    except BaseException as error:  # SystemExit too
        sys.modules.pop(name, None)
        reason = " ".join("".join(traceback.format_exception_only(error)).split())
        raise InputError(f"--plugin {path}: {reason:.500}") from error
