"""Wheel, editable install and uninstall, in environments of their own."""

import ast
import os
import subprocess
import sys
import sysconfig
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PTH = "lm_eval_muse_autoload.pth"
CHECK = """
from lm_eval.tasks import TaskManager
names = TaskManager().task_index
print("muse_demo" in names and "muse_news_privleak" in names)
"""


def run(*command: object, cwd: Path | None = None) -> str:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    result = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=environment,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT)
    (path,) = folder.glob("*.whl")
    return path


def make_environment(folder: Path) -> Path:
    """A venv that sees this environment's libraries, but nothing its .pth files add."""
    run(sys.executable, "-m", "venv", folder)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin" / "python"


def installed_files(python: Path) -> set[str]:
    (site,) = python.parent.parent.glob("lib/python*/site-packages")
    return {path.relative_to(site).as_posix() for path in site.rglob("*")} - {"__pycache__"}


def test_wheel_holds_what_runs(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {
        PTH,
        "harness_tasks/autoload.py",
        "harness_tasks/muse/_muse_news.yaml",
        "harness_tasks/muse/utils.py",
        "harness_tasks/examples/trades/forget/01-ferry.txt",
        "harness_tasks/examples/trades/questions.jsonl",
        "leaderboard/configs/demo.yaml",
        "leaderboard/published/papers.csv",
        "leaderboard/report/page.css",
        "leaderboard/report/page.html.j2",
        "leaderboard/report/page.js",
    } <= names
    assert not [name for name in names if name.startswith(("tests/", "leaderboard/results/"))]


def install(python: Path, how: str, wheel: Path) -> None:
    what = [wheel] if how == "wheel" else ["--no-build-isolation", "--editable", ROOT]
    run(python, "-m", "pip", "install", "--quiet", "--no-deps", *what)


@pytest.mark.parametrize("how", ["wheel", "editable"])
def test_install_is_seen_by_lm_eval_and_uninstall_leaves_nothing(
    wheel: Path, tmp_path: Path, how: str
) -> None:
    python = make_environment(tmp_path / "venv")
    before = installed_files(python)
    install(python, how, wheel)
    assert PTH in installed_files(python)
    # index a few tasks of lm-eval's own instead of thousands: our hook does the same
    small = (
        "import lm_eval.tasks.manager as m, pathlib;"
        "m.__file__ = str(pathlib.Path(m.__file__).parent / 'wmdp' / 'x.py')\n"
    )
    assert run(python, "-c", small + CHECK, cwd=tmp_path).strip() == "True"
    assert "demo" in run(python.parent / "lm-eval-muse", "--help", cwd=tmp_path)
    run(python, "-m", "pip", "uninstall", "--quiet", "--yes", "lm-eval-muse")
    assert installed_files(python) == before
    assert not (python.parent / "lm-eval-muse").exists()
    assert run(python, "-c", small + CHECK, cwd=tmp_path).strip() == "False"


def test_foreign_package_of_our_name_is_told_in_one_line(wheel: Path, tmp_path: Path) -> None:
    python = make_environment(tmp_path / "venv")
    install(python, "wheel", wheel)
    foreign = tmp_path / "foreign"
    (foreign / "quantizers").mkdir(parents=True)
    (foreign / "quantizers" / "other.py").touch()
    (foreign / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
        '[project]\nname = "foreign-quantizers"\nversion = "1"\n'
        '[tool.hatch.build.targets.wheel]\npackages = ["quantizers"]\n'
    )
    run(python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", foreign)
    result = subprocess.run(
        [python.parent / "lm-eval-muse", "quantizers"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert "'quantizers'" in line
    assert "pip uninstall foreign-quantizers" in line


OPTIONAL = {"bitsandbytes", "llmcompressor", "compressed_tensors", "deepspeed", "ray"}
"""Packages of the extras, imported where a user has chosen them."""


def imported_packages() -> set[str]:
    """Third-party packages that the product imports anywhere."""
    own = {"harness_tasks", "unlearners", "quantizers", "leaderboard"}
    found = set()
    for path in (path for package in own for path in (ROOT / package).rglob("*.py")):
        if path.is_relative_to(ROOT / "leaderboard" / "results"):
            continue  # scripts of a study, not part of the product
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                found.add(node.module.partition(".")[0])
    return found - own - sys.stdlib_module_names


def test_dependencies_are_what_is_imported() -> None:
    """Neither more nor less; a package that is only there through another may go with it."""
    tomllib = pytest.importorskip("tomllib")  # Python 3.11
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {canonicalize_name(Requirement(line).name) for line in project["dependencies"]}
    distributions = packages_distributions()
    imported = {
        canonicalize_name(distributions[package][0]) for package in imported_packages() - OPTIONAL
    }
    assert imported == declared
