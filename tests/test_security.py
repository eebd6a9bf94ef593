"""Calls that SECURITY.md excludes, searched for in the syntax trees of the four packages."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("quantizers", "unlearners", "harness_tasks", "leaderboard")
PICKLES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
CALLS = {
    "eval",
    "exec",
    "torch.load",
    "pandas.read_pickle",
    "pd.read_pickle",
    "yaml.load_all",
    "yaml.unsafe_load",
    "yaml.full_load",
    "os.system",
    "os.popen",
}
SWITCHES = {"trust_remote_code", "allow_pickle", "shell"}
EXECUTES = {"harness_tasks/autoload.py", "leaderboard/plugins.py"}
"""Where modules are executed: the import hook on lm-eval's own, and plugins."""


def forbidden(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and reason of whatever loads objects, runs text, or trusts remote code."""
    safe = {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        and [ast.unparse(base) for base in node.bases] == ["yaml.SafeLoader"]
    }
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        if isinstance(node, ast.Import):
            names = {alias.name.partition(".")[0] for alias in node.names}
            if names & PICKLES:
                yield line, f"imports {names & PICKLES}"
        elif isinstance(node, ast.ImportFrom):
            if (node.module or "").partition(".")[0] in PICKLES:
                yield line, f"imports {node.module}"
        elif isinstance(node, ast.keyword):
            if node.arg in SWITCHES and ast.unparse(node.value) != "False":
                yield line, str(node.arg)
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name in CALLS:
                yield line, name
            if name == "yaml.load":
                loaders = {ast.unparse(k.value) for k in node.keywords if k.arg == "Loader"}
                if not loaders or loaders - safe:
                    yield line, "yaml.load without a safe loader"


@pytest.mark.parametrize("package", PACKAGES)
def test_nothing_unsafe_is_called(package: str) -> None:
    paths = list((ROOT / package).rglob("*.py"))
    assert paths
    found = [
        f"{path.relative_to(ROOT)}:{line}: {reason}"
        for path in paths
        for line, reason in forbidden(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert found == []


def test_modules_are_executed_in_two_places() -> None:
    found = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr == "exec_module"
    }
    assert found == EXECUTES


def test_models_are_loaded_from_safetensors() -> None:
    """Every call of ours that reads a model's weights says so, or reads GGUF, numbers too."""
    calls = [
        (path, node)
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) == "AutoModelForCausalLM.from_pretrained"
    ]
    assert calls
    for path, node in calls:
        options = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        safe = options.get("use_safetensors") == "True" or "gguf_file" in options
        assert safe, f"{path}:{node.lineno}"


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from pickle import loads",
        "torch.load(path, weights_only=False)",
        "yaml.load(text, Loader=yaml.Loader)",
        "yaml.load(text)",
        "AutoModel.from_pretrained(path, trust_remote_code=True)",
        "eval('1')",
        "np.load(path, allow_pickle=True)",
        "subprocess.run(line, shell=True)",
    ],
)
def test_the_search_finds(code: str) -> None:
    assert list(forbidden(ast.parse(code)))
