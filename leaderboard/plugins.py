"""Methods and quantizers from a local file: ``--plugin my_method.py``."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from pathlib import Path

from .errors import USER_ERRORS, InputError


def load_plugin(path: Path) -> None:
    """Import a Python file, whose decorators register what it defines; once in a process.

    Raises:
        InputError: there is no such file, or its import fails.
    """
    if not path.is_file() or path.suffix != ".py":
        raise InputError(f"--plugin {path}: no such Python file")
    content = hashlib.sha256(path.read_bytes()).hexdigest()
    name = f"lm_eval_muse_plugin_{path.stem}_{content[:8]}"
    if name in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise InputError(f"--plugin {path}: cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except USER_ERRORS:
        del sys.modules[name]
        raise
    except Exception as error:
        del sys.modules[name]
        raise InputError(f"--plugin {path}: {type(error).__name__}: {error}") from error
