"""Methods by name: built in, of an installed package, broken, or given twice."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from unlearners import (
    Unlearner,
    UnlearnerError,
    get_unlearner,
    list_unlearners,
    methods,
    register_unlearner,
)

EXAMPLE = Path(__file__).parent / "example_package"


def python(code: str, path: Path) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter that finds the packages installed in ``path``."""
    search = os.pathsep.join(filter(None, [str(path), os.environ.get("PYTHONPATH")]))
    return subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": search},
        capture_output=True,
        text=True,
        check=False,
    )


def fake_distribution(site: Path, name: str, entry_point: str, module: str = "") -> None:
    """The traces of an installed package: metadata with one entry point, and a module."""
    module_name = name.replace("-", "_")
    info = site / f"{module_name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[lm_eval_muse.unlearners]\n{entry_point}\n")
    (site / f"{module_name}.py").write_text(module)


def test_every_module_of_methods_registers_built_in_methods() -> None:
    own = {name for name, owner in list_unlearners().items() if owner == "lm-eval-muse"}
    modules = {type(get_unlearner(name)).__module__.rpartition(".")[2] for name in own}
    assert modules == {
        path.stem for path in Path(methods.__path__[0]).glob("*.py") if path.stem[0] != "_"
    }


def test_every_module_of_methods_has_a_test_to_copy() -> None:
    tested = {path.stem for path in (Path(__file__).parent / "methods").glob("test_*.py")}
    for path in Path(methods.__path__[0]).glob("*.py"):
        if path.stem[0] != "_":
            assert f"test_{path.stem}" in tested


def test_importing_loads_no_torch(tmp_path) -> None:
    code = (
        "import sys, unlearners; unlearners.get_finetuning('lora');"
        "unlearners.TrainingSettings(); assert 'torch' not in sys.modules;"
        "unlearners.list_unlearners(); assert 'transformers' not in sys.modules"
    )
    result = python(code, tmp_path)
    assert result.returncode == 0, result.stderr


def test_an_installed_package_adds_a_method_that_trains(tmp_path) -> None:
    """Built and installed by pip; listed with its distribution; used through the registry."""
    source = shutil.copytree(EXAMPLE, tmp_path / "source")
    site = tmp_path / "site"
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target", str(site)]
    command = [sys.executable, "-m", "pip", "install", *options, str(source)]
    subprocess.run(command, check=True, capture_output=True)
    run = tmp_path / "run"
    code = f"""
import json, sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from tests.unlearners.tiny_models import byte_tokenizer, settings, tiny_llama
from unlearners import UnlearningData, get_unlearner, list_unlearners
from unlearners.finetuning import LoRA
unlearner = get_unlearner("flatten", retain_weight=0.5)
assert get_unlearner("flatten", **unlearner.to_dict()) == unlearner
model = unlearner(
    tiny_llama(), byte_tokenizer(), UnlearningData(forget=["x" * 99], retain=["y" * 99]),
    finetuning=LoRA(), training=settings(learning_rate=1e-2), output_dir=Path({str(run)!r}),
)
print(json.dumps(list_unlearners()))
"""
    result = python(code, site)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["flatten"] == "unlearn-by-flattening"
    lines = [json.loads(line) for line in (run / "loss.jsonl").open()]
    assert lines[-1]["forget"] < lines[0]["forget"]


LIST = "import unlearners; unlearners.list_unlearners()"


@pytest.mark.parametrize(
    ("entry_point", "module", "message"),
    [
        (
            "mine = broken_plugin:Mine",
            "import a_module_that_does_not_exist",
            "unlearner 'mine' of distribution broken-plugin cannot be loaded: "
            "ModuleNotFoundError(\"No module named 'a_module_that_does_not_exist'\")",
        ),
        (
            "mine = broken_plugin:Missing",
            "",
            "unlearner 'mine' of distribution broken-plugin cannot be loaded: AttributeError",
        ),
        (
            "mine = broken_plugin:mine",
            "def mine(): pass",
            "unlearner 'mine' of distribution broken-plugin is broken_plugin:mine; the entry point "
            "must name a subclass of unlearners.Unlearner",
        ),
        (
            "npo = broken_plugin:NPO",
            "",
            "unlearner 'npo' of distribution broken-plugin is already registered by distribution "
            "lm-eval-muse; uninstall one of them",
        ),
        (
            "mine = broken_plugin:Mine",
            "import unlearners\n@unlearners.register_unlearner('npo')\n"
            "class Mine(unlearners.Unlearner): pass",
            "unlearner 'mine' of distribution broken-plugin cannot be loaded: UnlearnerError("
            "\"unlearner 'npo' of broken_plugin is already registered by unlearners.methods.npo",
        ),
    ],
)
def test_a_broken_plugin_is_an_error_that_names_its_distribution(
    entry_point, module, message, tmp_path
) -> None:
    fake_distribution(tmp_path, "broken-plugin", entry_point, module)
    result = python(LIST, tmp_path)
    assert result.returncode == 1
    assert f"unlearners.errors.UnlearnerError: {message}" in result.stderr


def test_two_plugins_of_one_name_are_named_both(tmp_path) -> None:
    module = "import unlearners\nclass Mine(unlearners.Unlearner): pass"
    for name in ("plugin-one", "plugin-two"):
        fake_distribution(tmp_path, name, f"mine = {name.replace('-', '_')}:Mine", module)
    result = python(LIST, tmp_path)
    assert "UnlearnerError: unlearner 'mine' of distribution plugin-" in result.stderr
    assert "is already registered by distribution plugin-" in result.stderr


def test_a_plugin_may_use_the_decorator_and_the_entry_point(tmp_path) -> None:
    module = (
        "import unlearners\n@unlearners.register_unlearner('mine')\n"
        "class Mine(unlearners.Unlearner): pass"
    )
    fake_distribution(tmp_path, "good-plugin", "mine = good_plugin:Mine", module)
    result = python(f"{LIST}; print(unlearners.list_unlearners()['mine'])", tmp_path)
    assert result.stdout == "good-plugin\n", result.stderr


def test_a_local_class_is_listed_as_local() -> None:
    @register_unlearner("of_this_file", weight=2.0)
    @dataclass(frozen=True, kw_only=True)
    class Local(Unlearner):
        weight: float = 1.0

    assert list_unlearners()["of_this_file"] == "local"
    assert get_unlearner("of_this_file") == Local(weight=2.0)
    with pytest.raises(UnlearnerError, match=r"'of_this_file' of .* is already registered by"):
        register_unlearner("of_this_file")(Local)


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("npo_grd", {}, "unknown unlearner 'npo_grd': did you mean npo_gdr .*available: .*ga_klr"),
        ("xyz", {}, "unknown unlearner 'xyz': available: "),
        ("npo_gdr", {"betta": 1}, "no parameter 'betta': available: retain_weight, beta"),
        ("npo_gdr", {"beta": "high"}, "beta='high': Input should be a valid number"),
        ("npo_gdr", {"retain": "klr"}, "'npo_gdr' means retain='gdr', not 'klr'; choose"),
    ],
)
def test_wrong_names_and_parameters(name, params, message) -> None:
    with pytest.raises(UnlearnerError, match=message):
        get_unlearner(name, **params)


@pytest.mark.parametrize("name", ["", "../up", "a/b", "Big", "a b", "ga\u202e", "gа"])
def test_name_that_no_file_can_have(name: str) -> None:
    """The last one has a Cyrillic letter."""
    with pytest.raises(UnlearnerError, match="use small letters"):
        register_unlearner(name)
