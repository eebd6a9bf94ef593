"""Register the MUSE tasks and the model ``hf-muse`` with a plain ``lm_eval``.

lm-eval does not discover third-party tasks or models. ``autoload.pth`` next to this file runs at
every start of Python and puts a finder on ``sys.meta_path`` that waits for lm_eval. When lm_eval
is imported, the finder calls ``install``, which patches lm-eval's task manager and models as they
are imported. Failures become warnings.
"""

from __future__ import annotations

import functools
import inspect
import os
import sys
import warnings
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

SWITCH = "LM_EVAL_MUSE_AUTOLOAD"
TASKS = Path(__file__).parent / "muse"


def install() -> None:
    """Put the finder first on ``sys.meta_path``, unless ``LM_EVAL_MUSE_AUTOLOAD=0``."""
    if os.environ.get(SWITCH) != "0" and Finder not in sys.meta_path:
        sys.meta_path.insert(0, Finder)


class Finder:
    """Import finder that runs a hook after lm-eval's modules are executed."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Return the other finders' spec of a hooked module, with its hook attached.

        Args:
            name: Full name of the module.
            path: Search path of its package.
            target: Module object of a reload.

        Returns:
            The spec; None for modules without a hook.
        """
        if name in HOOKS:
            for finder in sys.meta_path:
                if finder is not Finder and (spec := finder.find_spec(name, path, target)):
                    _hook_execution(spec)
                    return spec
        return None


def add_model(models: ModuleType) -> None:
    """Register ``hf-muse`` with lm-eval, imported on first use."""
    from lm_eval.api.registry import model_registry

    if "hf-muse" not in model_registry:
        model_registry.register("hf-muse", target="harness_tasks.lm:MuseHFLM")


def add_report(huggingface: ModuleType) -> None:
    """Make ``hf`` keep the report of loading a model, which the tasks of MUSE check."""
    from .loading import record_loading

    record_loading(huggingface)


def add_tasks(manager: ModuleType) -> None:
    """Make every task manager that indexes lm-eval's default tasks also index ours."""
    initialize = manager.TaskManager.__init__
    signature = inspect.signature(initialize)

    @functools.wraps(initialize)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        initialize(self, *args, **kwargs)
        if signature.bind(self, *args, **kwargs).arguments.get("include_defaults", True):
            _or_warn(_merge_index, self, manager.TaskManager)

    manager.TaskManager.__init__ = __init__


HOOKS: dict[str, Callable[[ModuleType], None]] = {
    "lm_eval.models": add_model,
    "lm_eval.models.huggingface": add_report,
    "lm_eval.tasks.manager": add_tasks,
}


def _hook_execution(spec: ModuleSpec) -> None:
    loader: Any = spec.loader
    execute = loader.exec_module

    def exec_module(module: ModuleType) -> None:
        execute(module)
        if module.__name__ == spec.name:  # some loaders serve several modules
            _or_warn(HOOKS[spec.name], module)

    loader.exec_module = exec_module


def _merge_index(task_manager: Any, cls: Any) -> None:
    """Add our tasks under unused names; those of a user's ``--include_path`` take precedence."""
    from .compat import task_index

    own = cls(include_path=str(TASKS), include_defaults=False)
    index, ours = task_index(task_manager), task_index(own)
    free = ours.keys() - index.keys()
    index.update({name: ours[name] for name in free})
    for names in ("all_tasks", "all_subtasks", "all_groups", "all_tags"):
        listed = getattr(task_manager, names)
        listed[:] = sorted({*listed, *free.intersection(getattr(own, names))})


def _or_warn(function: Callable[..., None], *arguments: Any) -> None:
    try:
        function(*arguments)
    except Exception as error:
        warnings.warn(
            f"lm-eval-muse could not add itself to lm_eval ({error!r}); "
            f"its tasks are there with --include_path {TASKS}",
            stacklevel=3,
        )
