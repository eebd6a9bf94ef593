"""Any input, trusted or not, ends in success or in one of our error lines.

`make fuzz` runs the same tests with `HYPOTHESIS_PROFILE=fuzz`, ten times as many cases.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lm_eval.models.huggingface import HFLM

from harness_tasks.corpora import COLUMNS, load_corpus
from harness_tasks.errors import CorpusError
from harness_tasks.lm import MuseHFLM
from leaderboard.config import RunConfig, load_config
from leaderboard.errors import USER_ERRORS, InputError
from leaderboard.grid.plan import make_plan
from leaderboard.grid.sweep import load_sweep
from leaderboard.plugins import load_plugin
from leaderboard.reading.escaping import one_line
from leaderboard.records.schema import Cell, Record
from leaderboard.records.store import RunFolder, read_records
from leaderboard.report.files import outputs
from leaderboard.standings.table import build_table

from .nested_values import places, replaced

FACTOR = 10 if os.environ.get("HYPOTHESIS_PROFILE") == "fuzz" else 1


def cases(number: int) -> Callable[[Any], Any]:
    """Set the number of examples, ten times as many in `make fuzz`; they share their folders."""
    shared = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
    return settings(
        max_examples=number * FACTOR, deadline=None, database=None, suppress_health_check=shared
    )


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.sampled_from([10**40, -(10**25), 2**63])
    | st.floats()
    | TEXT
    | st.sampled_from(["rtn-int4", "npo_gdr", "lora", "../x", "/", "~nobody/x", "a" * 300, "\0"])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)


def outcome(call: Callable[[], Any], place: str = "") -> None:
    """Check that a call succeeds, or raises our error with `place` in its message."""
    try:
        call()
    except USER_ERRORS as error:
        assert place in str(error)
        assert one_line(str(error)).isprintable()


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --- configurations ------------------------------------------------------------------------------

YAML_PIECES = st.sampled_from(
    [
        "name: x\n",
        "name: x\nname: y\n",
        "corpora: [books]\n",
        "precisions: [bf16, rtn-int4]\n",
        "seeds: [1, 1]\n",
        "unlearn:\n  - {method: npo, finetuning: lora}\n",
        "training: {window: .nan}\n",
        "training: &a {b: *a}\n",
        "training: !!python/object/apply:os.system ['true']\n",
        "training: !!python/name:os.system\n",
        "suites: !!timestamp x\n",
        "suites: !!int ''\n",
        "suites: !!bool maybe\n",
        "keep: !!binary '*'\n",
        "keep: 2020-99-99\n",
        "training: {<<: {batch_size: 2}}\n",
        "training: {<<: [{batch_size: 2}, {batch_size: 3}]}\n",
        "? [a]\n: b\n",
        "unlearn: " + "[" * 40 + "]" * 40 + "\n",
        "seeds: [" + "9" * 5000 + "]\n",
        "seeds: [1e999]\n",
        "--- a\n--- b\n",
        "\t",
        "%YAML 9\n",
    ]
)


@cases(500)
@given(content=st.lists(YAML_PIECES | TEXT, max_size=6).map("".join) | st.binary(max_size=60))
def test_any_text_as_configuration(tmp_path: Path, content: str | bytes) -> None:
    path = tmp_path / "grid.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    before = contents(tmp_path)
    for load in (load_config, load_sweep):
        outcome(lambda load=load: load(path), str(path))
    assert contents(tmp_path) == before


@pytest.mark.parametrize("depth", [40, 3000])
def test_deep_configuration(tmp_path: Path, depth: int) -> None:
    """Within the depth that Python can parse, and beyond its stack."""
    path = tmp_path / "grid.yaml"
    path.write_text("name: " + "[" * depth + "]" * depth)
    with pytest.raises(InputError, match=r"grid\.yaml: line 1: nested more than 32 deep"):
        load_config(path)


def test_aliases_that_multiply(tmp_path: Path) -> None:
    """Eleven lines with 10^10 values, as lists and by merging."""
    path = tmp_path / "grid.yaml"
    lines = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 11)]
    path.write_text("\n".join(["a0: &a0 [1]", *lines]))
    with pytest.raises(InputError, match="more than 1000000 values"):
        load_config(path)
    lines = [f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}" for n in range(1, 11)]
    path.write_text("\n".join(["a0: &a0 {b: 1}", *lines]))
    with pytest.raises(InputError, match="<< takes one mapping"):
        load_config(path)


def test_useful_aliases_and_merges(tmp_path: Path) -> None:
    """A merged key may be overridden."""
    path = tmp_path / "grid.yaml"
    path.write_text(
        "name: x\ncorpora: [books]\nprecisions: [bf16]\n"
        "training: &slow {batch_size: 2, epochs: 3}\n"
        "unlearn: [{method: npo, finetuning: full, training: {<<: *slow, epochs: 4}}]\n"
    )
    config = load_config(path)
    assert config.unlearn[0].training == {"batch_size": 2, "epochs": 4}


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A configuration with every setting; its models are files that are never loaded."""
    root = tmp_path_factory.mktemp("grid")
    for role in ("target", "retrain"):
        (root / role).mkdir()
        (root / role / "config.json").write_text("{}")
        (root / role / "model.safetensors").write_text(role)
    write_corpus(root / "texts")
    models = {role: {"path": str(root / role)} for role in ("target", "retrain")}
    entry = {"params": {"beta": 0.1}, "finetuning_params": {"rank": 4, "targets": ["q_proj"]}}
    return {
        "name": "x",
        "corpora": [{"name": "texts", "data_dir": str(root), "max_documents": 1, **models}],
        "unlearn": [
            {"method": "npo_gdr", "finetuning": "lora", "training": {"epochs": 1}, **entry},
            {"method": "ga", "finetuning": "full", "corpora": ["texts"]},
        ],
        "precisions": ["none", {"quantizer": "rtn-int4", "params": {"group_size": 64}}],
        "suites": ["sust"],
        "seeds": [0, 1],
        "training": {"window": 64, "learning_rate": 1e-3, "report_to": ["tensorboard"]},
        "evaluation": {"limit": 3, "device": "cpu", "batch_size": 2},
        "resources": {"cpus": 1, "memory_gib": 1.5},
        "keep": "none",
    }


@pytest.mark.parametrize("path", ["a" * 300, "a" * 97, "a/" * 2500, "\0", "a\nb", "~", "."])
def test_no_model_has_this_path(grid: dict[str, Any], tmp_path: Path, path: str) -> None:
    """Neither a folder nor a name on the hub, where names have at most 96 characters."""
    file = tmp_path / "grid.yaml"
    file.write_text(yaml.safe_dump(replaced(grid, ("corpora", 0, "target", "path"), path)))
    with pytest.raises(InputError, match=r"no such model folder|is not a model folder"):
        make_plan(load_config(file))


@cases(500)
@given(data=st.data(), value=VALUES)
def test_any_value_at_any_place_of_a_grid(
    grid: dict[str, Any], tmp_path: Path, data: st.DataObject, value: Any
) -> None:
    place = data.draw(st.sampled_from(places(grid)))
    path = tmp_path / "grid.yaml"
    path.write_text(yaml.safe_dump(replaced(grid, place, value)))
    outcome(lambda: make_plan(load_config(path)))


@cases(150)
@given(data=st.data(), key=TEXT, value=VALUES)
def test_any_new_key_of_a_grid(
    grid: dict[str, Any], data: st.DataObject, key: str, value: Any
) -> None:
    """Unknown keys are refused unless the table is free-form."""
    tables = [place for place in places(grid) if isinstance(at(grid, place), dict)]
    place = data.draw(st.sampled_from(tables))
    content = replaced(grid, place, at(grid, place) | {key: value})
    try:
        make_plan(RunConfig.model_validate(content))
    except (*USER_ERRORS, ValueError) as error:
        assert str(error)


def at(value: Any, place: tuple[Any, ...]) -> Any:
    for key in place:
        value = value[key]
    return value


# --- corpora -------------------------------------------------------------------------------------


def write_corpus(folder: Path) -> None:
    for config, columns in COLUMNS.items():
        (folder / config).mkdir(parents=True)
        rows = [dict.fromkeys(columns, "text")]
        (folder / config / "forget.json").write_text(json.dumps(rows))


JSON_TEXTS = (
    st.recursive(
        SCALARS | st.just("\ud800"),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["text", "question", "prompt", "\ud800"]), inner)
        ),
        max_leaves=6,
    ).map(lambda value: json.dumps(value).encode())
    | st.binary(max_size=40)
    | st.sampled_from(
        [
            b"[" * 100_000,
            b'["' + b"x" * 1_000_000 + b'"]',
            '["é"]'.encode("latin-1"),
            '["é"]'.encode("utf-16"),
            b'[{"text": "a", "text": "b"}]',
            b'["\\ud83d"]',
            b"[" + b"1" * 5000 + b"]",
        ]
    )
)


@cases(400)
@given(content=JSON_TEXTS, config=st.sampled_from(sorted(COLUMNS)))
def test_any_content_of_a_split(tmp_path: Path, content: bytes, config: str) -> None:
    folder = tmp_path / "corpus"
    (folder / config).mkdir(parents=True, exist_ok=True)
    for path in (folder / config / "forget.json", folder / "retrain_auc.json"):
        path.write_bytes(content)
    before = contents(folder)
    corpus = load_corpus(str(folder))
    outcome(lambda: corpus.split(config, "forget"), str(folder / config / "forget.json"))
    outcome(lambda: corpus.retrain_auc, str(folder / "retrain_auc.json"))
    outcome(lambda: corpus.fingerprint)
    assert contents(folder) == before


@cases(200)
@given(name=TEXT | SCALARS.map(str), data_dir=st.none() | TEXT | SCALARS.map(str))
def test_any_name_of_a_corpus(name: str, data_dir: str | None) -> None:
    outcome(lambda: load_corpus(name, data_dir) if name != "demo" else None)


def test_links_in_a_corpus(tmp_path: Path) -> None:
    """A broken link, a link to itself, and a folder in place of a file."""
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "gone.json").symlink_to(tmp_path / "nothing")
    (tmp_path / "raw" / "loop.json").symlink_to(tmp_path / "raw" / "loop.json")
    (tmp_path / "raw" / "folder.json").mkdir()
    corpus = load_corpus(str(tmp_path))
    for name in ("gone", "loop", "folder"):
        with pytest.raises(CorpusError, match=name):
            corpus.split("raw", name)
    with pytest.raises(CorpusError, match="cannot be read"):
        corpus.fingerprint  # noqa: B018


# --- records -------------------------------------------------------------------------------------


@cases(500)
@given(data=st.data(), value=VALUES)
def test_any_value_at_any_place_of_a_record(
    tmp_path: Path, make: Any, data: st.DataObject, value: Any
) -> None:
    """Two references and a method, with a value of one of them replaced: a table or one error."""
    folder = tmp_path / "records"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    whole = {method: full_record(make, method) for method in ("target", "retrain", "npo")}
    name = data.draw(st.sampled_from(sorted(whole)))
    place = data.draw(st.sampled_from(places(whole[name])))
    for method, content in (whole | {name: replaced(whole[name], place, value)}).items():
        stem = Cell.model_validate(whole[method]["cell"]).stem
        with suppress(TypeError, KeyError, ValueError):
            stem = Cell.model_validate(content["cell"]).stem  # the name that the table expects
        if "/" in stem or "\0" in stem or len(stem) > 200:
            stem = "record"
        (folder / f"{stem}.json").write_text(json.dumps(content))
    before = contents(folder)
    outcome(lambda: table(tmp_path))
    assert contents(folder) == before


def table(run: Path) -> None:
    """Make every file of a table; JSON without NaN."""
    records = read_records(run)
    texts = outputs(run, "x", records, build_table(records), [])
    json.loads(texts["table.json"], parse_constant=pytest.fail)


def full_record(make: Any, method: str) -> dict[str, Any]:
    """A record with every field set."""
    record = make(method, "rtn-int4").model_dump(mode="json")
    model = record["cell"]["training"]["model"]
    record["cell"]["retrain_auc"] = {"source": "measured", "value": None, "model": model}
    record["cell"] |= {"precision": "none", "quantizer": "none"} if method == "retrain" else {}
    record["bits"] = None if method == "retrain" else 4
    record["examples"] = {
        "verbmem": {"examples": [0, 1], "scores": [40.0, 60.0], "documents": None},
        "knowmem": {"examples": [0, 1, 2], "scores": [30.0, 50.0, 70.0], "documents": [*"aab"]},
        "privleak/forget": {"examples": [0, 2], "scores": [-1.0, -3.0], "documents": None},
        "privleak/holdout": {"examples": [1, 3], "scores": [-2.0, -4.0], "documents": None},
    }
    record["survival"] = None if method == "retrain" else SURVIVAL
    record["extra"] = {"arc/acc": {"value": 0.5, "stderr": 0.1, "low": None, "high": None}}
    record["calibration"] = {"samples": 3}
    return dict(record)


UPDATE = {"parameters": 10, "norm": 1.0, "relative_norm": 0.1, "effective_rank": 3.0}
ROUNDING = {
    "kept_share": 0.5,
    "noise": 1.5,
    "zeroed_share": 0.1,
    "changed_indices": 0.1,
    "changed_scales": 0.2,
    "largest_move": 0.5,
}
SURVIVAL = {"update": UPDATE, "rounding": ROUNDING}


def test_full_records_give_a_table(tmp_path: Path, make: Any) -> None:
    """The records of the test above are valid before a value is replaced."""
    store = RunFolder(tmp_path / "run", "x")
    for method in ("target", "retrain", "npo"):
        store.write_record(Record.model_validate(full_record(make, method)))
    table(store.path)


@cases(300)
@given(data=st.data(), value=VALUES, content=st.none() | JSON_TEXTS)
def test_any_value_at_any_place_of_a_survival_report(
    tmp_path: Path, make: Any, data: st.DataObject, value: Any, content: bytes | None
) -> None:
    """Another value, or other bytes altogether: a table, or one error that names the file."""
    shutil.rmtree(tmp_path / "run", ignore_errors=True)
    store = RunFolder(tmp_path / "run", "x")
    for method in ("target", "npo"):
        record = Record.model_validate(full_record(make, method))
        store.write_record(record)
    stem = record.cell.training.stem
    layer = {"update": UPDATE, "rounding": {"rtn-int4": ROUNDING}}
    parts = {"kinds": {"q": layer}, "layers": {"layers.0.q": layer, "layers.1.q": layer}}
    whole = {"schema_version": 2, "checkpoint": stem, "total": layer, **parts}
    path = store.path / "survival" / f"{stem}.json"
    path.parent.mkdir()
    place = data.draw(st.sampled_from(places(whole)))
    path.write_bytes(content or json.dumps(replaced(whole, place, value)).encode())
    before = contents(store.path)
    outcome(lambda: table(store.path), str(path))
    assert contents(store.path) == before


@cases(200)
@given(content=st.binary(max_size=60) | JSON_TEXTS, cut=st.integers(0, 2000))
def test_any_content_of_a_record(tmp_path: Path, make: Any, content: bytes, cut: int) -> None:
    """Arbitrary bytes, alone or after the beginning of a record."""
    path = tmp_path / "records" / "npo.json"
    path.parent.mkdir(exist_ok=True)
    whole = make("npo").model_dump_json().encode()
    for damaged in (content, whole[:cut] + content):
        path.write_bytes(damaged)
        outcome(lambda: read_records(tmp_path), str(path))


# --- arguments of hf-muse ------------------------------------------------------------------------


class Loads(Exception):
    """The arguments are valid: the model is about to be loaded."""


ARGUMENTS = st.sampled_from(
    "peft unlearner finetuning corpus data_dir forget retain output_dir quantizer "
    "unlearner.beta unlearner.retain finetuning.rank finetuning.alpha finetuning.targets "
    "training.epochs training.seed training.report_to training.nothing quantizer.group_size "
    "quantizer.".split()
)
ARGUMENT_VALUES = st.sampled_from(
    "npo_gdr ga lora full rtn-int4 bf16 books 5 -1 0.5 nan 1e999 True None x ~nobody/x".split()
) | st.text("abcxyz-_./~0123456789", max_size=8)


@cases(400)
@given(arguments=st.dictionaries(ARGUMENTS, ARGUMENT_VALUES, max_size=5))
def test_any_arguments_of_hf_muse(
    monkeypatch: pytest.MonkeyPatch, arguments: dict[str, str]
) -> None:
    """Arguments as in `--model_args`; valid ones reach the loading of the model."""

    def loads(*arguments: Any, **keywords: Any) -> None:
        raise Loads

    monkeypatch.setattr(HFLM, "__init__", loads)
    text = ",".join(f"{key}={value}" for key, value in ({"pretrained": "x"} | arguments).items())
    with suppress(Loads):
        outcome(lambda: MuseHFLM.create_from_arg_string(text))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["validate", "a" * 300], "File name too long"),
        (["methods", "--plugin", "a" * 300], "File name too long"),
        (["table", "loop"], "Too many levels of symbolic links"),
        (["collect", "a" * 300, "--out", "x"], "File name too long"),
    ],
)
def test_paths_that_no_system_takes(tmp_path: Path, arguments: list[str], message: str) -> None:
    """Run as a process, to include the outermost handler of errors."""
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    done = subprocess.run(
        [sys.executable, "-m", "leaderboard", *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["loop"]


# --- plugins -------------------------------------------------------------------------------------

STATEMENTS = st.sampled_from(
    [
        "x = 1",
        "def (",
        "1 / 0",
        "import nothing_of_this_name",
        "raise SystemExit(0)",
        "import sys; sys.exit('bye')",
        "raise KeyboardInterrupt",
        "class End(BaseException): pass\nraise End('line\\nline')",
        "class Mute(Exception):\n    def __str__(self): raise ValueError\nraise Mute",
        "def f(): f()\nf()",
        "import sys; del sys.modules[__name__]; raise ValueError",
        "from unlearners import register_unlearner; register_unlearner('Not A Name')",
        "from unlearners import register_unlearner, Unlearner; register_unlearner('ga')(Unlearner)",
        "from quantizers import get_quantizer; get_quantizer('nothing')",
        "(" * 300,
        "x = 1 \ud800",
    ]
)


@cases(200)
@given(content=st.lists(STATEMENTS | TEXT, max_size=3).map("\n".join) | st.binary(max_size=30))
def test_any_plugin(tmp_path: Path, content: str | bytes) -> None:
    path = tmp_path / "plugin.py"
    data = content if isinstance(content, bytes) else content.encode(errors="surrogatepass")
    path.write_bytes(data)
    outcome(lambda: load_plugin(path))
    assert contents(tmp_path) == {str(path): data}  # and no bytecode
