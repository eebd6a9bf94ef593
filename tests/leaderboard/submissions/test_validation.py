"""A valid submission, damaged in many ways: each damage is named, and none does harm."""

from __future__ import annotations

import copy
import gzip
import hashlib
import io
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from typer.testing import CliRunner

from harness_tasks.corpora import PUBLISHED
from leaderboard.cli.app import app
from leaderboard.corpora.corpus import PUBLISHED_MODELS
from leaderboard.errors import InputError
from leaderboard.reading import untrusted_values
from leaderboard.records import samples
from leaderboard.records.schema import Cell, Record
from leaderboard.submissions import answer_checks, record_checks
from leaderboard.submissions import manifest as layout
from leaderboard.submissions.benchmark_checks import benchmark_findings
from leaderboard.submissions.validation import validate
from quantizers import get_quantizer, list_quantizers

METHOD = "bounded_ascent--lora--none"


class Folder:
    """A submission to damage; ``seal`` makes the hashes right again, which would be in the way."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def record(self, name: str = METHOD) -> Path:
        (path,) = (self.path / "records").glob(f"*--{name}--*.json")
        return path

    def answers(self, name: str = METHOD) -> Path:
        (path,) = (self.path / "samples").glob(f"*--{name}--*.jsonl.gz")
        return path

    def change(self, what: Callable[[dict[str, Any]], Any], name: str = METHOD) -> None:
        """Edit a record's JSON in place, and seal it again as a stranger can."""
        path = self.record(name)
        content = json.loads(path.read_text())
        what(content)
        path.write_text(json.dumps(content))

    def change_cell(self, what: Callable[[dict[str, Any]], Any], name: str = METHOD) -> None:
        """Edit a record's cell, and let the files have the names that it gives them."""
        path, answers = self.record(name), self.answers(name)
        self.change(lambda record: what(record["cell"]), name)
        stem = Cell.model_validate(json.loads(path.read_text())["cell"]).stem
        path.rename(path.with_name(f"{stem}.json"))
        answers.rename(answers.with_name(f"{stem}.jsonl.gz"))

    def lines(self, name: str = METHOD) -> list[dict[str, Any]]:
        return [
            json.loads(line)
            for line in gzip.decompress(self.answers(name).read_bytes()).splitlines()
        ]

    def write_lines(self, content: bytes | list[dict[str, Any]], name: str = METHOD) -> None:
        """Other answers, with the SHA-256 that the record then has to have."""
        if isinstance(content, list):
            fields = [*samples.Sample.model_fields, *(key for line in content for key in line)]
            ordered = [{key: line[key] for key in fields if key in line} for line in content]
            text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in ordered)
            content = text.encode()
        self.answers(name).write_bytes(gzip.compress(content))
        sha = hashlib.sha256(content).hexdigest()
        self.change(lambda record: record.update(samples=sha), name)

    def change_answer(self, of: str, /, name: str = METHOD, **fields: Any) -> None:
        """Edit the first answer to a task; a field given as None goes."""
        lines = self.lines(name)
        line = next(line for line in lines if line["task"] == of)
        line.update(fields)
        for field in [field for field, value in line.items() if value is None]:
            del line[field]
        self.write_lines(lines, name)

    def change_yaml(self, what: Callable[[dict[str, Any]], Any]) -> None:
        path = self.path / "config.yaml"
        content = yaml.safe_load(path.read_text())
        what(content)
        path.write_text(yaml.safe_dump(content))

    def change_manifest(self, what: Callable[[dict[str, Any]], Any]) -> None:
        path = self.path / "manifest.json"
        content = json.loads(path.read_text())
        what(content)
        path.write_text(json.dumps(content))

    def seal(self) -> None:
        """Let the manifest say what is there."""
        paths = [p for p in self.path.glob("*/*") if p.is_file() and not p.is_symlink()]
        paths += [self.path / name for name in ("README.md", "config.yaml", "search.yaml")]
        contents = {
            path.relative_to(self.path).as_posix(): path.read_bytes()
            for path in paths
            if path.exists()
        }
        files = {
            name: {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
            for name, content in contents.items()
        }
        cells = sorted(Path(name).stem for name in contents if name.startswith("records/"))
        self.change_manifest(lambda manifest: manifest.update(files=files, cells=cells))


@pytest.fixture
def folder(packed: Any, tmp_path: Path) -> Folder:
    return Folder(Path(shutil.copytree(packed.folder, tmp_path / "submission")))


def problems(folder: Folder) -> list[str]:
    return [str(problem) for problem in validate(folder.path).problems]


def test_untouched_is_valid_and_says_what_it_cannot_know(folder: Folder) -> None:
    verdict = validate(folder.path)
    assert verdict.problems == []
    assert [finding.text for finding in verdict.findings] == [
        "evaluation.limit: only the first 6 examples of every task",
        f"the corpus {next(iter(verdict.records.values())).cell.training.corpus.name} is not one "
        "of MUSE's: its text is not checked",
    ]
    assert verdict.method == "bounded_ascent"
    assert len(verdict.records) == 6
    folder.seal()
    assert problems(folder) == [], "what the other tests do after the damage does none"


def test_checksum_of_a_record_is_ignored(folder: Folder) -> None:
    """Records before 0.2 have one; the manifest has one of every file."""
    for path in (folder.path / "records").iterdir():
        content = json.loads(path.read_text())
        content["sha256"] = "0" * 64
        path.write_text(json.dumps(content))
    folder.seal()
    assert problems(folder) == []


# Damage that the hashes are not to hide: the manifest is made right afterwards.


def rename_method(name: str) -> Callable[[Folder], None]:
    def damage(folder: Folder) -> None:
        folder.change_cell(lambda cell: cell["training"].update(method=name))

    return damage


def text(name: str, content: str | bytes) -> Callable[[Folder], None]:
    """Other content for a file; ``record`` and ``answers`` stand for one of each."""

    def damage(folder: Folder) -> None:
        path = folder.path / name
        if name in ("record", "answers"):
            path = getattr(folder, name)()
        path.write_bytes(content.encode() if isinstance(content, str) else content)

    return damage


def field(path: str, value: Any, name: str = METHOD) -> Callable[[Folder], None]:
    """Another value at a place of a record; ``...`` removes what is there."""
    return lambda folder: folder.change(lambda record: put(record, path, value), name)


def raw(path: str, literal: str) -> Callable[[Folder], None]:
    """A place of a record in JSON that `json.dumps` would not write."""

    def damage(folder: Folder) -> None:
        field(path, "@")(folder)
        file = folder.record()
        file.write_text(file.read_text().replace('"@"', literal))

    return damage


def setting(path: str, value: Any) -> Callable[[Folder], None]:
    """Another value at a place of config.yaml."""
    return lambda folder: folder.change_yaml(lambda content: put(content, path, value))


def put(content: Any, path: str, value: Any) -> None:
    """Set the value at a place such as ``seeds.0``; ``...`` removes it."""
    *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    for parent in parents:
        content = content[parent]
    if value is ...:
        del content[last]
    else:
        content[last] = value


def answer(of: str, **fields: Any) -> Callable[[Folder], None]:
    return lambda folder: folder.change_answer(of, **fields)


def lines(what: Callable[[list[dict[str, Any]]], Any]) -> Callable[[Folder], None]:
    def damage(folder: Folder) -> None:
        content = folder.lines()
        what(content)
        folder.write_lines(content)

    return damage


def add(path: str, value: float) -> Callable[[Folder], None]:
    def damage(folder: Folder) -> None:
        _, metric, part = path.split(".")

        def change(record: dict[str, Any]) -> None:
            record["metrics"][metric][part] += value

        folder.change(change)

    return damage


def torch_file() -> bytes:
    file = io.BytesIO()
    torch.save({"weight": torch.zeros(2)}, file)
    return file.getvalue()


def zip_file() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a", "b")
    return file.getvalue()


BOMB = "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\nname: *c\n"
SEALED = {
    # pickles and other archives, whatever they are called
    "pickle as record": (text("record", pickle.dumps({"a": 1})), r"records/.*: not UTF-8: byte 0"),
    "pickle as text": (
        text("source/bounded_ascent.py", pickle.dumps(["print('hi')"], protocol=0)),
        r"source/bounded_ascent.py: is a pickle",
    ),
    "torch file": (text("README.md", torch_file()), r"README.md: not UTF-8"),
    "old torch file": (
        text("record", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."),
        r"not UTF-8: byte 0",
    ),
    "zip as answers": (text("answers", zip_file()), r"samples/.*: not a whole gzip file"),
    # text that is none, or that hides something
    "latin-1": (text("README.md", b"caf\xe9"), r"README.md: not UTF-8: byte 3"),
    "utf-16 JSON": (text("record", "{}".encode("utf-16")), r"not UTF-8"),
    "bidirectional source": (
        text("source/bounded_ascent.py", "x = 1\naccess = 'user\u202e'"),
        r"source/bounded_ascent.py: line 2: the invisible character U\+202E",
    ),
    "zero-width README": (text("README.md", "a\u200bb"), r"README.md: line 1: .* U\+200B"),
    "filler letter": (text("README.md", "a\u3164b"), r"README.md: line 1: .* U\+3164"),
    "terminal escape": (
        field("provenance.device", "\x1b[2J"),
        r"provenance.device: line 1: the invisible character U\+001B",
    ),
    "bidirectional by escape": (
        field("provenance.platform", "a\u2066b"),
        r"provenance.platform: line 1: the invisible character U\+2066",
    ),
    "half a surrogate pair": (
        raw("provenance.python", r'"\ud800"'),
        r"provenance.python: .*U\+D800",
    ),
    # records that are not as they were written
    # names
    "look-alike letter": (
        field("cell.training.method", "bounded_\u0430scent"),
        r"cell.training.method: bounded_\\u0430scent, expected \[a-z0-9\]",
    ),
    "look-alike letter in a file's name": (
        rename_method("bounded_\u0430scent"),
        r"records/corpus-.*--bounded_\\u0430scent--.*: has no place in a submission",
    ),
    "upper case": (rename_method("Bounded"), r"cell.training.method: Bounded, expected"),
    "precision with spaces": (
        lambda folder: folder.change_cell(lambda cell: cell.update(precision="int 4")),
        r"records/.*int 4.*: has no place in a submission",
    ),
    # JSON with more than one meaning, or made to hurt
    "key twice": (
        lambda folder: folder.record().write_text('{"a": 1, "a": 2}'),
        r"records/.*: the key a is given twice",
    ),
    "NaN": (raw("metrics.verbmem.value", "NaN"), r"NaN is no number of JSON"),
    "Infinity": (raw("metrics.verbmem.value", "-Infinity"), r"-Infinity is no number of JSON"),
    "too large": (raw("metrics.verbmem.value", "1e999"), r"metrics.verbmem.value: inf is not fin"),
    "huge integer": (raw("cell.limit", "9" * 5000), r"an integer of more than 30 digits"),
    "deep": (
        raw("calibration", '{"a":' * 40 + "1" + "}" * 40),
        r"calibration.*: nested more than 32",
    ),
    "very deep": (text("record", "[" * 200_000), r"records/.*: nested too deep"),
    "long string": (
        field("provenance.git", "x" * 100_001),
        r"provenance.git: a string of more than",
    ),
    "not JSON": (text("record", '{"a": 1} x'), r"records/.*: not JSON: line 1: Extra data"),
    "byte order mark": (text("record", b"\xef\xbb\xbf{}"), r"records/.*: not JSON"),
    # YAML
    "billion laughs": (text("config.yaml", BOMB), r"config.yaml: line 1: anchors and aliases"),
    "tag": (
        text("config.yaml", "name: !!python/object/apply:os.system [touch hacked]"),
        r"config.yaml: line 1: tags are not allowed",
    ),
    "YAML key twice": (
        text("config.yaml", "name: a\nname: b"),
        r"config.yaml: .*a key is given twice",
    ),
    "deep YAML": (
        text("config.yaml", "[" * 40 + "]" * 40),
        r"config.yaml: line 1: nested more than",
    ),
    "long number": (text("config.yaml", "seeds: [1" + ":1" * 900 + "]"), r"unquoted value of more"),
    "infinite YAML": (text("config.yaml", "limit: .inf"), r"config.yaml: limit: inf is not finite"),
    "date": (text("config.yaml", "name: 2026-01-01"), r"config.yaml: name: a value of type date"),
    "two documents": (text("config.yaml", "a: 1\n---\nb: 2"), r"config.yaml: not YAML"),
    "no mapping": (text("config.yaml", "hello"), r"config.yaml: top level"),
    "unknown setting": (setting("evil", 1), r"config.yaml: evil: Extra inputs"),
    "wrong setting": (setting("seeds", ["one"]), r"config.yaml: seeds.0: Input should be"),
    "search.yaml": (text("search.yaml", "name: a"), r"search.yaml: corpora: Field required"),
    "package.json": (
        text("source/package.json", '{"distribution": "../x", "version": "1"}'),
        r"source/package.json: distribution: String should match",
    ),
    # the record's schema
    "unknown field": (field("evil", 1), r"records/.*: evil: Extra inputs"),
    "missing field": (field("provenance", ...), r"provenance: Field required"),
    "text for a number": (field("metrics.verbmem.value", "5"), r"metrics.verbmem.value: .*number"),
    "truth for a number": (field("cell.training.seed", True), r"cell.training.seed: .*integer"),
    "version 1": (field("schema_version", 1), r"schema_version: 1, expected 2: run the grid again"),
    "no version": (field("schema_version", ...), r"schema_version: 1, expected 2: run the grid"),
    "version 3": (field("schema_version", 3), r"schema_version: 3, expected 2: run the grid again"),
    "survival": (
        field("survival.update", {}),
        r"records/.*: survival.update.parameters: Field req",
    ),
    "survival by quantizer": (
        field("survival.rounding", {"rtn-int4": {}}),
        r"records/.*: survival.rounding.rtn-int4: Extra inputs",
    ),
    "dtype not known": (
        lambda folder: folder.change_cell(lambda cell: cell["training"].update(dtype=None)),
        r"cell.training.dtype: missing",
    ),
    "tokenizer not known": (
        lambda folder: folder.change_cell(lambda cell: cell["training"].update(tokenizer=None)),
        r"cell.training.tokenizer: missing",
    ),
    "bits": (field("bits", 8, "target--none--rtn-int4"), r"bits: 8.0, rtn-int4 has 4"),
    "no bits": (field("bits", None, "target--none--rtn-int4"), r"bits: None, rtn-int4 has 4"),
    "bits of no quantizer": (field("bits", 4), r"bits: 4.0, none has None"),
    "bits as a parameter": (
        lambda folder: folder.change_cell(
            lambda cell: cell["quantizer_params"].update(bits=8), "target--none--rtn-int4"
        ),
        r"cell.quantizer_params.bits: 8, rtn-int4 has 4",
    ),
    "name of another cell": (field("cell.training.params.limit", 6.0), r"holds another cell"),
    "seed": (
        lambda folder: folder.change_cell(lambda cell: cell["training"].update(seed=3)),
        r"cell.training.settings.seed: is not cell.training.seed, 3",
    ),
    # status against metrics
    "failed": (field("status", "failed"), r"status: failed, and every cell needs a result"),
    "diverged with metrics": (field("status", "diverged"), r"status: diverged, yet there are"),
    "no reason": (
        field("metrics.utility", ...),
        r"metrics.utility: missing, and `reason` does not",
    ),
    "idle reason": (field("reason", "slow day"), r"reason: there is one, although no metric"),
    "unknown metric": (field("metrics.fun", {"value": 1, "stderr": 0}), r"metrics: fun, expected"),
    "other tasks": (
        field("extra", {"arc/acc": {"value": 1, "stderr": None}}),
        r"extra: arc/acc, and the cell names no extra tasks",
    ),
    "no answers": (field("samples", None), r"samples: missing; without the answers"),
    # ranges
    "VerbMem above": (
        field("metrics.verbmem.value", 101),
        r"metrics.verbmem: 101.0, expected 0 to 100",
    ),
    "Utility below": (field("metrics.utility.value", -1), r"metrics.utility: -1.0, expected 0 to"),
    "PrivLeak below": (
        field("metrics.privleak.value", -101),
        r"privleak: -101.0, expected -100 to",
    ),
    "PrivLeak above": (
        field("metrics.privleak.value", 201),  # the retrain AUC is 1/3
        r"privleak: 201.0, expected -100 to 200",
    ),
    "error below": (field("metrics.verbmem.stderr", -1), r"verbmem: a standard error of -1.0"),
    "no retrain AUC": (field("provenance.retrain_auc", None), r"provenance.retrain_auc: missing"),
    "retrain AUC": (field("provenance.retrain_auc", 1.5), r"provenance.retrain_auc: 1.5, expected"),
    "other retrain AUC": (
        field("provenance.retrain_auc", 0.41),
        r"provenance.retrain_auc: 0.3333333333333333, other cells have 0.41",
    ),
    # metrics and examples against answers
    "metric": (add("metrics.verbmem.value", 3e-6), r"metrics.verbmem: .*, the answers give"),
    "stderr": (add("metrics.verbmem.stderr", -3e-6), r"metrics.verbmem.stderr: .*, the answers g"),
    "low": (add("metrics.verbmem.low", 3e-6), r"metrics.verbmem.low: .*, the answers give"),
    "high": (field("metrics.verbmem.high", None), r"metrics.verbmem.high: None, the answers give"),
    "no error where all agree": (
        field("metrics.knowmem.stderr", 0),
        r"metrics.knowmem.stderr: 0.0, the answers give None",
    ),
    "narrow bound where all agree": (  # three documents: 1 - 0.025^(1/3)
        field("metrics.knowmem.high", 50),
        r"metrics.knowmem.high: 50.0, the answers give 70.759823",
    ),
    "example": (
        field("examples.verbmem.scores", [0.0] * 6),
        r"samples/.*: examples: not the scores of the answers",
    ),
    "examples of another order": (
        field("examples.verbmem.examples", [5, 4, 3, 2, 1, 0]),
        r"samples/.*: examples: not the scores of the answers",
    ),
    "examples of fewer documents": (
        field("examples.verbmem.documents", ["0"] * 6),
        r"samples/.*: examples: not the scores of the answers",
    ),
    "no examples": (field("examples", {}), r"samples/.*: examples: not the scores of the answers"),
    "more examples than scores": (
        field("examples.verbmem.scores", [0.0]),
        r"records/.*: examples.verbmem: Value error, examples, scores and documents differ in num",
    ),
    "endless examples": (
        field("examples.more", {"examples": [*range(4001)], "scores": [0.0] * 4001}),
        r"records/.*: examples.more: more than 4000",
    ),
    "error of PrivLeak": (
        field("metrics.privleak.stderr", 5, "retrain--none--rtn-int4"),
        r"records/.*: metrics.privleak.stderr: 5.0, the answers give 54.433105",
    ),
    "error of PrivLeak's zero": (
        field("provenance.retrain_auc_stderr", 0.01),
        r"records/.*: provenance.retrain_auc_stderr: 0.01, expected 0.272166",
    ),
    "PrivLeak": (
        add("metrics.privleak.value", 50),
        r"metrics.privleak: -50.0, the answers give -100",
    ),
    "response": (
        answer("utility", response="Lonul", reference="Lonul"),
        r"utility 0: a score of 0.0, ROUGE-L gives 100.0",
    ),
    "score": (answer("utility", score=100.0), r"utility 0: a score of 100.0, ROUGE-L gives 0.0"),
    "no number": (answer("utility", score="NaN"), r"utility 0: a score of nan"),
    "left out": (lines(lambda found: found.pop(0)), r"verbmem: the examples are not those"),
    "twice": (
        lines(lambda found: found.insert(1, found[0])),
        r"verbmem: the examples are not those",
    ),
    "fewer": (
        lines(
            lambda found: found.remove(next(a for a in reversed(found) if a["task"] == "utility"))
        ),
        r"utility: other examples than samples/.*",
    ),
    "task left out": (
        lines(lambda found: found.__setitem__(slice(6, 12), [])),
        r"metrics.knowmem: no answers give it",
    ),
    "unknown task": (answer("utility", task="fun"), r"line 19: task: Input should be"),
    "no response": (answer("verbmem", response=None), r"verbmem 0: not the fields that an answer"),
    "no split": (answer("privleak", split=None), r"privleak 0: not the fields that an answer"),
    "split of a question": (
        answer("utility", split="forget"),
        r"utility 0: not the fields that an answer",
    ),
    "endless response": (answer("utility", response="a " * 513), r"utility 0: more than 512 words"),
    "endless prompt": (answer("utility", prompt="a" * 401), r"utility 0: more than 400 characters"),
    "other question": (
        answer("utility", prompt="Who?"),
        r"utility 0: another question or reference than samples/",
    ),
    "other side": (
        answer("privleak", split="holdout"),
        r"privleak 0: another question or reference",
    ),
    "extra field": (answer("utility", evil=1), r"line 19: evil: Extra inputs"),
    "other spelling": (
        lambda folder: folder.write_lines(
            gzip.decompress(folder.answers().read_bytes()).replace(b'"task":', b'"task": ', 1)
        ),
        r"line 1: not as lm-eval-muse writes an answer",
    ),
    "not gzip": (text("answers", "hello"), r"samples/.*: not a whole gzip file"),
    "cut short": (
        lambda folder: folder.answers().write_bytes(folder.answers().read_bytes()[:-9]),
        r"samples/.*: not a whole gzip file",
    ),
    "other answers": (
        lambda folder: folder.answers().write_bytes(gzip.compress(b"")),
        r"samples/.*: not the SHA-256 of its record",
    ),
    # what cannot be known from here
    "task version": (
        field("provenance.tasks.muse_knowmem", "0.9"),
        r"provenance.tasks.muse_knowmem: 0.9, this version of lm-eval-muse has 1.1",
    ),
    # the grid
    "seed without records": (setting("seeds", [0, 1]), r"config.yaml: no record of .*--seed1"),
    "precision without records": (
        lambda folder: folder.change_yaml(
            lambda config: config["precisions"].append({"quantizer": "rtn-int8"})
        ),
        r"config.yaml: no record of .*--target--none--rtn-int8--seed0",
    ),
    "corpus without records": (
        lambda folder: folder.change_yaml(lambda config: config["corpora"].append("news")),
        r"config.yaml: no record of news retrain",
    ),
    "corpus twice": (
        lambda folder: folder.change_yaml(
            lambda config: config["corpora"].append(copy.deepcopy(config["corpora"][0]))
        ),
        r"config.yaml: corpora: one is given twice",
    ),
    "suite without records": (setting("suites", ["sust"]), r"no record of .*--sust4--none--seed0"),
    "other parameter": (
        setting("unlearn.0.params", {"limit": 6.0}),
        r"records/.*: cell.training.params.limit: 5.0, config.yaml says 6.0",
    ),
    "other learning rate": (
        setting("unlearn.0.training.learning_rate", 0.5),
        r"cell.training.settings.learning_rate: 0.001, config.yaml says 0.5",
    ),
    "default left open": (
        setting("unlearn.0.finetuning_params", {"rank": 4}),
        r"cell.training.finetuning_params.alpha: 32, config.yaml says None",
    ),
    "other limit": (setting("evaluation.limit", None), r"cell.limit: 6, config.yaml says None"),
    "other split": (setting("corpora.0.forget", "raw/other"), r"forget is raw/other, the records"),
    "other model": (setting("corpora.0.target.path", "other"), r"the records have another target"),
    "other tokenizer": (
        setting("corpora.0.target.tokenizer", "other"),
        r"the records have another tokenizer of target",
    ),
    "other dtype": (
        setting("evaluation.dtype", "bfloat16"),
        r"cell.training.dtype: float32, config.yaml says bfloat16",
    ),
    "chat template": (
        setting("evaluation.chat_template", True),
        r"cell.chat_template: False, config.yaml says True",
    ),
    "other zero of PrivLeak": (
        lambda folder: folder.change_cell(
            lambda cell: cell.update(retrain_auc={"source": "corpus", "value": 0.5, "model": None})
        ),
        r"cell.retrain_auc.source: corpus, config.yaml says measured",
    ),
    "another method": (setting("unlearn.0.method", "npo"), r"npo is not the submitted method"),
    "unnamed cell": (
        setting("precisions", ["none"]),
        r"records/.*: config.yaml does not name this",
    ),
    "nothing unlearned": (setting("unlearn", []), r"config.yaml: unlearn: is empty"),
    "unknown corpus": (setting("unlearn.0.corpora", ["mars"]), r"unlearn: mars is not among"),
    "endless grid": (
        setting("seeds", list(range(1_000_000, 1_010_000))),
        r"config.yaml: more than 20000 cells",
    ),
    "one cell on other text": (
        lambda folder: folder.change_cell(
            lambda cell: cell["training"]["corpus"].update(fingerprint="0" * 64)
        ),
        r"cell.training.corpus.fingerprint: 0{64}, config.yaml says",
    ),
    "one cell from another model": (
        lambda folder: folder.change_cell(
            lambda cell: cell["training"]["model"].update(revision="sha256:0")
        ),
        r"cell.training.model.revision: sha256:0, config.yaml says sha256:",
    ),
}


@pytest.mark.parametrize("name", SEALED)
def test_damage_is_named(folder: Folder, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    damage, expected = SEALED[name]
    damage(folder)
    folder.seal()

    def refuse(*_: object, **__: object) -> None:
        pytest.fail("something was unpickled")

    for module, function in ((pickle, "load"), (pickle, "loads"), (torch, "load")):
        monkeypatch.setattr(module, function, refuse)
    found = problems(folder)
    assert any(re.search(expected, line) for line in found), found
    assert all(line.isascii() and line.isprintable() for line in found)


# Damage to the folder itself, and to what the manifest says of it.


def unsealed(what: Callable[[dict[str, Any]], Any]) -> Callable[[Folder], None]:
    return lambda folder: folder.change_manifest(what)


def sparse(name: str, size: int) -> Callable[[Folder], None]:
    return lambda folder: os.truncate(folder.path / name, size)


def replace_by_link(folder: Folder) -> None:
    path = folder.record()
    elsewhere = path.rename(folder.path.parent / "elsewhere.json")
    path.symlink_to(elsewhere)


def link_folder(folder: Folder) -> None:
    elsewhere = (folder.path / "source").rename(folder.path.parent / "elsewhere")
    (folder.path / "source").symlink_to(elsewhere)


def new(name: str) -> Callable[[Folder], None]:
    def damage(folder: Folder) -> None:
        path = folder.path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text("hello")

    return damage


UNSEALED = {
    "extra file": (new("evil.py"), r"evil.py: has no place"),
    "hidden file": (new(".gitattributes"), r"\.gitattributes: has no place"),
    "file among records": (new("records/evil.pkl"), r"records/evil.pkl: has no place"),
    "folder in a folder": (new("source/pkg/evil.py"), r"source/pkg/: has no place"),
    "another folder": (new("evil/x"), r"evil/: has no place"),
    "direction in a name": (new("source/a\u202eyp.py"), r"source/a\\u202eyp.py: has no place"),
    "bytes that are no name": (
        lambda folder: (folder.path / os.fsdecode(b"source/\xff.py")).write_text("x"),
        r"source/\\udcff.py: has no place",
    ),
    "symbolic link": (replace_by_link, r"records/.*: a symbolic link"),
    "link of a folder": (link_folder, r"problem: source: a symbolic link"),
    "link as manifest": (
        lambda folder: (
            (folder.path / "manifest.json").rename(folder.path.parent / "m")
            and (folder.path / "manifest.json").symlink_to(folder.path.parent / "m")
        ),
        r"manifest.json: a symbolic link",
    ),
    "hard link": (
        lambda folder: (folder.path.parent / "elsewhere").hardlink_to(folder.record()),
        r"records/.*: a hard link",
    ),
    "pipe": (
        lambda folder: (folder.record().unlink(), os.mkfifo(folder.path / "records" / "a.json")),
        r"records/a.json: not a regular file",
    ),
    "no README": (lambda folder: (folder.path / "README.md").unlink(), r"README.md: is missing"),
    "no config": (
        lambda folder: (folder.path / "config.yaml").unlink(),
        r"config.yaml: is missing",
    ),
    "no source": (
        lambda folder: shutil.rmtree(folder.path / "source"),
        r"source/: is missing or empty",
    ),
    "no record": (
        lambda folder: folder.record().unlink(),
        r"manifest.json: cells: promised, but there is no records/",
    ),
    "no answers": (
        lambda folder: folder.answers().unlink(),
        r"records/.*: samples: there is no samples/",
    ),
    "answers denied": (field("samples", None), r"records/.*: samples: null, but there are answers"),
    "large record": (
        lambda folder: os.truncate(folder.record(), 2**22 + 1),
        r"records/.*: 4194305 bytes, more than 4194304",
    ),
    "large string": (sparse("README.md", 100 * 2**20), r"README.md: 104857600 bytes, more than"),
    "other hash": (text("README.md", "x" * 10), r"README.md: 10 bytes, manifest.json says"),
    "same size": (
        lambda folder: (folder.path / "README.md").write_bytes(
            bytes((folder.path / "README.md").stat().st_size)
        ),
        r"README.md: not the SHA-256 that manifest.json says",
    ),
    "path outside": (
        unsealed(
            lambda m: m["files"].update({"../../etc/passwd": {"sha256": "0" * 64, "bytes": 1}})
        ),
        r"manifest.json: files: ../../etc/passwd is not there",
    ),
    "file not listed": (
        unsealed(lambda m: m["files"].pop("README.md")),
        r"files: lacks README.md, which is there",
    ),
    "cell outside": (
        unsealed(lambda m: m["cells"].append("../../x")),
        r"cells: promised, but there is no records/../../x.json",
    ),
    "cell twice": (unsealed(lambda m: m["cells"].append(m["cells"][0])), r"is listed 2 times"),
    "cell not promised": (unsealed(lambda m: m["cells"].pop()), r"is there, but not promised"),
    "format": (unsealed(lambda m: m.update(format=2)), r"manifest.json: format: Input should be 1"),
    "method": (
        unsealed(lambda m: m.update(method="../x")),
        r"manifest.json: method: String should",
    ),
    "reference": (
        unsealed(lambda m: m.update(method="target")),
        r"target is the name of a referen",
    ),
    "hash": (
        unsealed(lambda m: m["files"]["README.md"].update(sha256="x")),
        r"manifest.json: files.README.md.sha256: String should match",
    ),
    "manifest": (text("manifest.json", "[]"), r"manifest.json: top level: Input should be an obj"),
    "orphan": (
        lambda folder: shutil.copy(folder.answers(), folder.path / "samples" / "a.jsonl.gz"),
        r"samples/a.jsonl.gz: there is no record that it belongs to",
    ),
}


@pytest.mark.parametrize("name", UNSEALED)
def test_damaged_folder_is_named(folder: Folder, name: str) -> None:
    damage, expected = UNSEALED[name]
    damage(folder)
    found = problems(folder)
    assert any(re.search(expected, line) for line in found), found
    assert all(line.isascii() and line.isprintable() for line in found)


@pytest.mark.parametrize(
    ("place", "limit", "value", "expected"),
    [
        (layout, "MOST_FILES", 8, "more than 8 files and folders"),
        (layout, "MOST_TOTAL", 1000, "bytes in all, more than 1000"),
        (samples, "MOST_BYTES", 1000, "samples/.*: holds more than 1000 bytes"),
        (answer_checks, "MOST_ANSWERS", 3, "samples/.*: more than 12 lines"),
        (untrusted_values, "MOST_VALUES", 100, "records/.*: more than 100 values"),
    ],
)
def test_limits(
    folder: Folder,
    monkeypatch: pytest.MonkeyPatch,
    place: Any,
    limit: str,
    value: int,
    expected: str,
) -> None:
    """A gzip bomb is one of these: 24 answers unpack to more than 1,000 bytes."""
    monkeypatch.setattr(place, limit, value)
    found = problems(folder)
    assert any(re.search(expected, line) for line in found), found


@pytest.mark.parametrize("left", ["metrics", "examples", "extra"])
def test_diverged_cell_has_no_numbers(folder: Folder, left: str) -> None:
    folder.answers().unlink()
    nothing: dict[str, Any] = {"metrics": {}, "examples": {}, "extra": {}, "samples": None}
    kept: dict[str, Any] = {
        "metrics": {"verbmem": {"value": 1.0, "stderr": None}},
        "examples": {"verbmem": {"examples": [0], "scores": [1.0]}},
        "extra": {"arc/acc": {"value": 1.0, "stderr": None}},
    }
    changes = {**nothing, left: kept[left]}
    folder.change(lambda record: record.update(status="diverged", reason="loss nan", **changes))
    folder.seal()
    assert any("status: diverged, yet there are metrics" in line for line in problems(folder))


def test_diverged_cell_is_a_result(folder: Folder) -> None:
    """Without metrics and answers, with the reason."""
    folder.answers().unlink()
    nothing: dict[str, Any] = {"metrics": {}, "examples": {}, "extra": {}, "samples": None}
    folder.change(lambda record: record.update(status="diverged", reason="loss nan", **nothing))
    folder.seal()
    assert problems(folder) == []


def test_score_that_is_no_number_has_a_reason(folder: Folder) -> None:
    """A collapsed model: one text's Min-40% is NaN, so that PrivLeak is missing."""
    folder.change_answer("privleak", score="NaN")
    field("examples.privleak/forget.scores.0", None)(folder)
    field("metrics.privleak", ...)(folder)
    field("reason", "privleak: failed: NaN scores for 1 of 6")(folder)
    folder.seal()
    assert problems(folder) == []


def test_score_of_minus_infinity_is_a_score(folder: Folder) -> None:
    """The three holdout texts then beat one of three forget texts: AUC 1/3, as the retrained one.

    PrivLeak is 0, and its error is not known.
    """
    folder.change_answer("privleak", score="-Infinity")
    field("examples.privleak/forget.scores.0", None)(folder)
    field("metrics.privleak", {"value": 0.0, "stderr": None})(folder)
    folder.seal()
    assert problems(folder) == []


def test_nothing_submitted_is_imported(folder: Folder, tmp_path: Path) -> None:
    """Beside modules that write a file when they are imported, two named like ones of ours.

    Nor is torch, which could unpickle, and takes seconds.
    """
    trap = f"open({str(tmp_path / 'imported')!r}, 'w')\n"
    for name in ("bounded_ascent", "yaml", "leaderboard"):
        (folder.path / "source" / f"{name}.py").write_text(trap)
    folder.seal()
    result = subprocess.run(
        [Path(sys.executable).with_name("lm-eval-muse"), "validate", ".."],
        capture_output=True,
        text=True,
        cwd=folder.path / "source",
        env=os.environ | {"PYTHONPROFILEIMPORTTIME": "1"},
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.endswith("bounded_ascent, 6 records: valid\n")
    assert not (tmp_path / "imported").exists()
    imported = {line.rpartition("|")[2].strip() for line in result.stderr.splitlines()}
    assert "leaderboard.submissions.validation" in imported
    assert not imported & {"torch", "bounded_ascent"}


BUILT_IN = sorted(name for name, owner in list_quantizers().items() if owner == "lm-eval-muse")


@pytest.mark.parametrize("name", BUILT_IN)
def test_bits_of_the_built_in_quantizers_are_known(name: str) -> None:
    """The validation imports no quantizer: it has a list of its own."""
    assert record_checks.BUILT_IN_BITS[name] == get_quantizer(name).bits


def validated(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["validate", *arguments])


def test_exit_codes(folder: Folder, packed: Any) -> None:
    assert validated(str(folder.path)).exit_code == 0
    (folder.path / "README.md").write_text("\u202e")
    result = validated(str(packed.folder), str(folder.path))
    assert result.exit_code == 1
    last = result.stdout.splitlines()[-1]
    assert last == f"{folder.path}: bounded_ascent, 6 records: 2 problems"


@pytest.mark.parametrize(("name", "message"), [("no", "no such folder"), (".", "no submission")])
def test_no_submission_at_all(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        validate(tmp_path / name)


# Texts and models of the published benchmark, on records made by hand.


def published(make: Any, **changes: Any) -> dict[str, Any]:
    """Target and retrain rows on MUSE-News as it is pinned, but for the changes to the corpus."""
    pinned = PUBLISHED["news"]
    corpus = {
        "revision": pinned.revision,
        "fingerprint": hashlib.sha256(f"{pinned.repo}@{pinned.revision}".encode()).hexdigest(),
        **changes,
    }
    records = {}
    for role in ("target", "retrain"):
        content = make(role).model_dump(mode="json")
        model = PUBLISHED_MODELS["news", role]
        content["cell"]["training"]["corpus"] |= corpus
        content["cell"]["training"]["model"] = {"name": model.path, "revision": model.revision}
        content["provenance"]["retrain_auc"] = pinned.retrain_auc
        records[f"records/{role}.json"] = Record.model_validate(content)
    return records


def benchmark(records: dict[str, Any]) -> list[str]:
    return [str(finding) for finding in benchmark_findings(records)]


def test_published_benchmark_is_known(make: Any) -> None:
    assert benchmark(published(make)) == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"revision": "0" * 40}, "problem: records/target.json: cell.training.corpus: not news at"),
        ({"fingerprint": "0" * 64}, "problem: records/target.json: cell.training.corpus: not news"),
        ({"name": "mars"}, "problem: records/target.json: cell.training.corpus: no mars is known"),
        (
            {"source": "folder"},
            "warning: records/target.json: the corpus news was read from a fold",
        ),
        (
            {"source": "folder", "name": "mine"},
            "warning: records/target.json: the corpus mine is not one of MUSE's",
        ),
    ],
)
def test_other_text_is_told(make: Any, changes: dict[str, Any], expected: str) -> None:
    (finding,) = benchmark(published(make, **changes))
    assert finding.startswith(expected)


def test_other_models_and_retrain_auc_are_told(make: Any) -> None:
    """Made by hand, the records' models are no published ones, and their retrain AUC is 0.5."""
    records = published(make)
    other = make("retrain").model_dump(mode="json")
    content = records["records/retrain.json"].model_dump(mode="json")
    content["cell"]["training"]["model"] = other["cell"]["training"]["model"]
    content["provenance"]["retrain_auc"] = 0.5
    records["records/retrain.json"] = Record.model_validate(content)
    place = "records/retrain.json"
    assert benchmark(records) == [
        f"problem: {place}: provenance.retrain_auc: 0.5, other cells have 0.4772",
        f"warning: {place}: the retrain model is not the one published with news",
    ]
    content["provenance"]["retrain_auc"] = 0.2
    content["cell"]["training"]["corpus"] |= {"name": "mine", "source": "folder"}
    assert benchmark({place: Record.model_validate(content)})[1:] == [
        f"warning: {place}: provenance.retrain_auc: 0.2, far from the 0.5 of a model that knows "
        "neither"
    ]


@pytest.mark.parametrize(("limit", "answers", "wrong"), [(None, 100, 0), (None, 99, 1), (4, 3, 1)])
def test_published_benchmark_has_a_known_size(
    make: Any, limit: int | None, answers: int, wrong: int
) -> None:
    """A hundred answers to each question set, or the first ones of them."""
    (record, _) = published(make).values()
    record = record.model_copy(update={"cell": record.cell.model_copy(update={"limit": limit})})
    given = [
        samples.Sample(
            task="utility", example=i, prompt="a", response="b", reference="b", score=100
        )
        for i in range(answers)
    ]
    found = [
        text
        for text in answer_checks.answer_problems(record, given)
        if "the examples are not" in text
    ]
    assert len(found) == wrong
