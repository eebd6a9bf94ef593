"""Import hook that registers tasks and model with lm_eval."""

import os
import subprocess
import sys
from importlib import resources
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import harness_tasks
from harness_tasks import autoload, import_conflicts

PTH = Path(autoload.__file__).with_suffix(".pth")
PROJECT = Path(harness_tasks.__file__).parents[1]

# lm-eval's default tasks are thousands of files; a folder without any stands for them
WITH_HOOK = f"exec(open({str(PTH)!r}).read())\n"
MANAGER = "from lm_eval.tasks import manager; manager.__file__ = '/nowhere/manager.py'\n"


def run(code: str, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *options, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )


def test_start_of_python_imports_nothing() -> None:
    """The line of the .pth file defines one finder: no module is imported for it."""
    code = (
        "import sys; before = set(sys.modules)\n" + WITH_HOOK + "print(set(sys.modules) - before)"
    )
    assert run(code, "-S").stdout.strip() == "set()"
    for package in import_conflicts.PACKAGES:
        assert package not in run("pass", "-X", "importtime").stderr


def test_tasks_and_model_are_there() -> None:
    shown = run(
        WITH_HOOK
        + MANAGER
        + "m = manager.TaskManager(); print(*m.all_groups); print(*m.all_subtasks)\n"
        "from lm_eval.api.registry import get_model\n"
        "print(get_model('dummy').__name__, get_model('hf-muse').__name__)\n"
    ).stdout.splitlines()
    assert {"muse", "muse_books", "muse_demo", "muse_news"} <= set(shown[0].split())
    for corpus in ("books", "demo", "news"):
        for task in ("verbmem", "knowmem", "privleak", "utility"):
            assert f"muse_{corpus}_{task}" in shown[1].split()
    assert shown[2] == "DummyLM MuseHFLM"


def test_entry_point_is_the_folder() -> None:
    """The entry point gives the folder of the tasks, imported or by package name."""
    (entry,) = entry_points(group="lm_eval.tasks", name="muse")
    package = entry.load()
    assert Path(package.__file__).parent == autoload.TASKS
    assert resources.files(package).joinpath("_muse_demo.yaml").is_file()


@pytest.mark.parametrize("folder", [autoload.TASKS, autoload.TASKS.parent])
def test_with_include_path_too(folder: Path) -> None:
    """With the folder or its parent, every task is indexed once and without a warning."""
    done = run(
        WITH_HOOK + MANAGER + f"m = manager.TaskManager(include_path={str(folder)!r})\n"
        "print(m.all_tasks.count('muse_news'), m.all_subtasks.count('muse_news_privleak'))\n"
        "from harness_tasks.compat import task_index\n"
        "print(task_index(m)['muse_news'].yaml_path)\n"
    )
    assert done.stdout.splitlines() == ["1 1", str(autoload.TASKS / "_muse_news.yaml")]
    assert done.stderr == ""


def test_not_without_the_defaults() -> None:
    code = "print(manager.TaskManager(include_defaults=False).all_tasks)"
    assert run(WITH_HOOK + MANAGER + code).stdout == "[]\n"


def test_switched_off() -> None:
    code = (
        "print(manager.TaskManager().all_tasks)\n"
        "import lm_eval.models\n"
        "from lm_eval.api.registry import model_registry\n"
        "print('hf' in model_registry, 'hf-muse' in model_registry)\n"
    )
    done = run(WITH_HOOK + MANAGER + code, LM_EVAL_MUSE_AUTOLOAD="0")
    assert done.stdout.splitlines() == ["[]", "True False"]


@pytest.mark.parametrize(
    "content", [None, "raise RuntimeError('half installed')", "def install(: pass"]
)
def test_broken_package(tmp_path: Path, content: str | None) -> None:
    """``harness_tasks`` missing or broken: Python starts silently, lm_eval warns and works."""
    if content is not None:
        (tmp_path / "harness_tasks").mkdir()
        (tmp_path / "harness_tasks" / "__init__.py").touch()
        (tmp_path / "harness_tasks" / "autoload.py").write_text(content)
    path = [str(tmp_path), *[p for p in sys.path if p and Path(p).resolve() != PROJECT.resolve()]]
    start = f"import sys; sys.path[:] = {path!r}\n" + WITH_HOOK
    assert run(start, "-S").stderr == ""
    done = run(start + MANAGER + "print(manager.TaskManager().all_tasks)", "-S")
    assert done.stdout == "[]\n"
    assert done.stderr.count("lm-eval-muse is installed but broken") == 1


def test_lm_eval_that_changed_its_task_manager() -> None:
    """An incompatible task manager is a warning and still created."""

    class TaskManager:
        def __init__(self, include_path: Any = None) -> None:
            self.include_path = include_path

    manager = ModuleType("lm_eval.tasks.manager")
    manager.TaskManager = TaskManager  # type: ignore[attr-defined]
    autoload.add_tasks(manager)
    with pytest.warns(UserWarning, match="could not add itself to lm_eval.*--include_path"):
        made = TaskManager(include_path="mine")
    assert made.include_path == "mine"


def test_lm_eval_that_registered_us_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    from lm_eval.api import registry

    fresh: registry.Registry[Any] = registry.Registry("model")
    fresh.register("hf-muse", target="by.entry:Point")
    monkeypatch.setattr(registry, "model_registry", fresh)
    autoload.add_model(ModuleType("lm_eval.models"))
    assert dict(fresh.items()) == {"hf-muse": "by.entry:Point"}


def test_loader_of_several_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loader of several modules, such as a zip file's, runs the hook of one module only."""
    hooked, executed = [], []
    loader = SimpleNamespace(exec_module=executed.append)
    monkeypatch.setitem(autoload.HOOKS, "one", hooked.append)
    autoload._hook_execution(SimpleNamespace(name="one", loader=loader))  # type: ignore[arg-type]
    one, other = ModuleType("one"), ModuleType("other")
    loader.exec_module(other)
    loader.exec_module(one)
    assert executed == [other, one]
    assert hooked == [one]


def test_foreign_owner_of_a_package(monkeypatch: pytest.MonkeyPatch) -> None:
    owners = {"quantizers": ["lm_eval_muse", "quantizers"], "leaderboard": ["lm-eval-muse"]}
    monkeypatch.setattr(import_conflicts, "packages_distributions", lambda: owners)
    (line,) = import_conflicts.foreign_owners()
    assert "'quantizers'" in line
    assert "`pip uninstall quantizers`" in line
    assert "\n" not in line
