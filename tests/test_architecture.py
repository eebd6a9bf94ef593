"""The layers: quantizers <- unlearners <- harness_tasks <- leaderboard, and light imports."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAY_IMPORT: dict[str, set[str]] = {
    "quantizers": set(),
    "unlearners": {"quantizers"},  # its list of a model's parts
    "harness_tasks": {"quantizers", "unlearners"},
    "leaderboard": {"quantizers", "unlearners", "harness_tasks"},
}


def imported_packages(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.partition(".")[0]


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_imports_go_one_way(package: str) -> None:
    paths = list((ROOT / package).rglob("*.py"))
    assert paths
    forbidden = MAY_IMPORT.keys() - MAY_IMPORT[package] - {package}
    found = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in paths
        for name in imported_packages(path)
        if name in forbidden
    ]
    assert found == []


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_import_loads_no_torch(package: str) -> None:
    code = f"import sys, {package}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_help_loads_no_torch() -> None:
    code = (
        "import sys\n"
        "from typer.testing import CliRunner\n"
        "from leaderboard.cli.app import app\n"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_validation_never_by_assert() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for package in MAY_IMPORT
        for path in (ROOT / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Assert)
    ]
    assert found == []
