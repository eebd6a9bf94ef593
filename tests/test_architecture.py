"""Architecture: imports go down, imports are light, docstrings keep the conventions."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# From the ground up. A module may import what is on its own floor or below; a folder is one floor,
# and within a floor there are no circles.
FLOORS = """
quantizers.errors quantizers.parameters quantizers.overlap quantizers.loading
quantizers.architecture quantizers.layers quantizers.grid quantizers.base quantizers.layer_pairs
quantizers.replaced quantizers.checkpoint quantizers.calibration quantizers.plugin_registry
quantizers.registry quantizers.methods quantizers.saving quantizers.survival quantizers

unlearners.errors unlearners.files unlearners.data unlearners.reference unlearners.losses
unlearners.training unlearners.method unlearners.weights unlearners.facts unlearners.onednn
unlearners.finetuning unlearners.engine unlearners.base unlearners.registry unlearners.methods
unlearners.testing unlearners

harness_tasks.errors harness_tasks.cache harness_tasks.batching harness_tasks.scoring
harness_tasks.import_conflicts harness_tasks.compat harness_tasks.loading harness_tasks.corpora
harness_tasks.calibration harness_tasks.transforms harness_tasks.requests harness_tasks.tasks
harness_tasks.fast_generation harness_tasks.muse harness_tasks.lm harness_tasks.autoload
harness_tasks

leaderboard.interrupts leaderboard.progress leaderboard.processes leaderboard.errors
leaderboard.plugins leaderboard.reading leaderboard.records leaderboard.config
leaderboard.standings leaderboard.models leaderboard.evaluation leaderboard.training
leaderboard.corpora leaderboard.grid leaderboard.execution leaderboard.report
leaderboard.submissions leaderboard.cli leaderboard.__main__ leaderboard
""".split()
PACKAGES = ("quantizers", "unlearners", "harness_tasks", "leaderboard")


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


PATHS = {
    name_of(path): path
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
    if not path.is_relative_to(ROOT / "leaderboard" / "results")
}


def imported_modules(module: str) -> Iterator[str]:
    """Modules of the four packages that a module imports anywhere, for types too."""
    path = PATHS[module]
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*above, *([node.module] if node.module else [])])
            names = [
                full if (full := f"{origin}.{alias.name}") in PATHS else origin
                for alias in node.names
            ]
        else:
            continue
        yield from (name for name in names if name in PATHS and name != module)


def floor(module: str) -> int:
    """Number of the floor of a module: of the longest name in ``FLOORS`` that it begins with."""
    parts = module.split(".")
    names = [".".join(parts[:length]) for length in range(len(parts), 0, -1)]
    (name,) = [name for name in names if name in FLOORS][:1]
    if name in PACKAGES and module != name:
        raise ValueError(f"{module} has no floor: add it to FLOORS")
    return FLOORS.index(name)


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_go_down(package: str) -> None:
    up = [
        f"{module} imports {imported}"
        for module in PATHS
        if module.split(".")[0] == package
        for imported in imported_modules(module)
        if floor(imported) > floor(module)
    ]
    assert up == []


def test_no_circles() -> None:
    left = {module: {*imported_modules(module)} for module in PATHS}
    while free := [module for module, imported in left.items() if not imported & left.keys()]:
        for module in free:
            del left[module]
    assert left == {}


def test_every_floor_exists() -> None:
    assert [name for name in FLOORS if name not in PATHS] == []


@pytest.mark.parametrize("package", PACKAGES)
def test_import_loads_no_torch(package: str) -> None:
    code = f"import sys, {package}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_help_loads_no_torch() -> None:
    code = (
        "import sys\n"
        "from typer.testing import CliRunner\n"
        "from leaderboard.cli import app\n"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_errors_are_light() -> None:
    """An error can be caught without the libraries that raise it."""
    code = "import sys, leaderboard.errors; sys.exit(bool({'torch', 'datasets'} & {*sys.modules}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_validation_never_by_assert() -> None:
    found = [
        f"{module}:{node.lineno}"
        for module, path in PATHS.items()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Assert)
    ]
    assert found == []


QUESTION_WORDS = {"What", "Whether", "How", "Which", "Where", "When", "Who", "Whose", "Why"}


def test_docstrings_begin_with_a_noun_or_an_imperative() -> None:
    found = []
    for module, path in PATHS.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                text = ast.get_docstring(node) or ""
                if text.split(" ")[0] in QUESTION_WORDS:
                    found.append(f"{module}: {text.splitlines()[0]}")
    assert found == []


def functions() -> Iterator[tuple[str, ast.FunctionDef, str]]:
    """Public functions and methods with their docstrings."""
    for module, path in PATHS.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        nested = {
            inner
            for outer in ast.walk(tree)
            if isinstance(outer, ast.FunctionDef)
            for inner in ast.walk(outer)
            if inner is not outer
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and node not in nested and node.name[0] != "_":
                yield module, node, ast.get_docstring(node) or ""


def test_three_arguments_are_documented() -> None:
    """Commands have their help texts; a method that overrides one is documented there."""
    documented = {node.name for _, node, text in functions() if "Args:" in text}
    found = []
    for module, node, text in functions():
        arguments = [a.arg for a in (*node.args.args, *node.args.kwonlyargs)]
        is_command = any("command" in ast.dump(decorator) for decorator in node.decorator_list)
        if len([a for a in arguments if a not in ("self", "cls")]) < 3 or is_command:
            continue
        if "Args:" not in text and node.name not in documented and not node.name.startswith("on_"):
            found.append(f"{module}.{node.name}")
    assert found == []


# Modules without logic of their own, and those that are seen through the tests of another one.
WITHOUT_TESTS = """
quantizers.errors unlearners.errors harness_tasks.errors
harness_tasks.requests.types harness_tasks.muse.utils leaderboard.__main__
unlearners.base unlearners.finetuning.base
""".split()


def test_every_module_has_a_test_file() -> None:
    missing = []
    for module, path in PATHS.items():
        *folders, name = module.split(".")
        file = ROOT.joinpath("tests", *folders, f"test_{name.lstrip('_')}.py")
        if path.name != "__init__.py" and module not in WITHOUT_TESTS and not file.exists():
            missing.append(module)
    assert missing == []
