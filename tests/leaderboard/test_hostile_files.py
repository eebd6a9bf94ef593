"""Untrusted models, corpora and records: nothing is run, and all text is shown escaped."""

from __future__ import annotations

import csv
import io
import json
import os
import pickle
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from harness_tasks.corpora import load_corpus
from harness_tasks.errors import CorpusError
from leaderboard.errors import InputError
from leaderboard.models.folders import load_model
from leaderboard.records.samples import Sample
from leaderboard.records.schema import REFERENCES, Record
from leaderboard.records.store import RunFolder, read_record
from leaderboard.records.survival import LayerSurvival, SurvivalReport
from leaderboard.report.files import outputs
from leaderboard.report.terminal import print_table
from leaderboard.standings.table import build_table


class Touch:
    """Object that creates a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def pickled_safetensors(model: Path, trap: Path) -> None:
    (model / "model.safetensors").write_bytes(pickle.dumps({"weight": Touch(trap)}))


def torch_safetensors(model: Path, trap: Path) -> None:
    torch.save({"weight": Touch(trap)}, model / "model.safetensors")


def torch_file(model: Path, trap: Path) -> None:
    """Weights that transformers would read without safetensors; here they are harmless."""
    weights = load_file(model / "model.safetensors")
    torch.save(weights, model / "pytorch_model.bin")
    (model / "model.safetensors").unlink()


def pickled_shard(model: Path, trap: Path) -> None:
    """An index that names a pickle."""
    weights = load_file(model / "model.safetensors")
    torch.save(dict.fromkeys(weights, Touch(trap)), model / "pytorch_model.bin")
    index = {"metadata": {}, "weight_map": dict.fromkeys(weights, "pytorch_model.bin")}
    (model / "model.safetensors").unlink()
    (model / "model.safetensors.index.json").write_text(json.dumps(index))


def shard_elsewhere(model: Path, trap: Path) -> None:
    """An index that names a file outside the model."""
    weights = load_file(model / "model.safetensors")
    index = {"metadata": {}, "weight_map": dict.fromkeys(weights, "../../../etc/passwd")}
    (model / "model.safetensors").unlink()
    (model / "model.safetensors.index.json").write_text(json.dumps(index))


def index_of_nothing(model: Path, trap: Path) -> None:
    (model / "model.safetensors").unlink()
    (model / "model.safetensors.index.json").write_text("[]")


def remote_code(model: Path, trap: Path) -> None:
    config = json.loads((model / "config.json").read_text())
    config |= {
        "model_type": "strange",
        "auto_map": {"AutoConfig": "strange.C", "AutoModelForCausalLM": "strange.M"},
    }
    (model / "config.json").write_text(json.dumps(config))
    (model / "strange.py").write_text(f"import os; os.mkdir({str(trap)!r})")


@pytest.mark.parametrize(
    "damage",
    [
        pickled_safetensors,
        torch_safetensors,
        torch_file,
        pickled_shard,
        shard_elsewhere,
        index_of_nothing,
        remote_code,
    ],
)
def test_models(small_world: Any, tmp_path: Path, damage: Callable[[Path, Path], None]) -> None:
    """One line names the folder, and hidden code has not run."""
    model, trap = tmp_path / "model", tmp_path / "trap"
    shutil.copytree(small_world.target, model)
    load_model(str(model))
    damage(model, trap)
    with pytest.raises(InputError) as caught:
        load_model(str(model))
    assert str(caught.value).startswith(f"no model can be loaded from {model}: ")
    assert "\n" not in str(caught.value)
    assert not trap.exists()


def test_pickled_tokenizer_is_not_read(small_world: Any, tmp_path: Path) -> None:
    """Files that are not read may hold anything."""
    model, trap = tmp_path / "model", tmp_path / "trap"
    shutil.copytree(small_world.target, model)
    for name in ("tokenizer.pkl", "training_args.bin", "optimizer.pt", "adapter_model.bin"):
        (model / name).write_bytes(pickle.dumps(Touch(trap)))
    load_model(str(model))
    assert not trap.exists()


LARGE = "\u202e" + "x" * (100 * 2**20)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("raw/forget.json", [{LARGE: 1}]),
        ("retrain_auc.json", {"retrain_auc": LARGE}),
    ],
)
def test_large_strings_in_a_corpus(tmp_path: Path, name: str, content: Any) -> None:
    """100 MiB with a mark that reverses text give a line of at most 1,000 characters."""
    path = tmp_path / "corpus" / name
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(content, ensure_ascii=False))
    corpus = load_corpus(str(tmp_path / "corpus"))
    config, _, file = name.partition("/")
    with pytest.raises(CorpusError) as caught:
        corpus.split(config, file.removesuffix(".json")) if file else corpus.retrain_auc
    assert len(str(caught.value)) < 1000
    assert str(caught.value).isprintable()


def test_a_large_text_is_text(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "forget.json").write_text(json.dumps(["x" * (100 * 2**20)]))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert len(load_corpus(str(tmp_path)).texts("raw/forget")[0]) == 100 * 2**20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**20  # KiB


MARKUP = "=1+1<script>x</script><img src=x onerror=x>\u202e\x1b[31m"
ENUMERATED = {"status", "subset", "samples", "sha256", "dtype", "source"}
UPDATE = {"parameters": 10, "norm": 1.0, "relative_norm": 0.1, "effective_rank": 3.0}
ROUNDING = {"kept_share": 0.5, "noise": 1.5, "zeroed_share": 0.1, "changed_indices": 0.1}
MODEL = {"name": MARKUP, "revision": MARKUP}


def filled(value: Any, key: str = "") -> Any:
    """Replace every free text by markup."""
    if isinstance(value, dict):
        return {name: filled(member, name) for name, member in value.items()}
    if isinstance(value, list):
        return [filled(member) for member in value]
    free = isinstance(value, str) and key not in ENUMERATED and value not in REFERENCES
    return MARKUP if free else value


def test_markup_in_every_text_of_a_record(make: Any, tmp_path: Path) -> None:
    """Names, settings and their values, reasons, survival, extra scores, answers, provenance."""
    more = {MARKUP: MARKUP}
    records = []
    folder = RunFolder(tmp_path / "run", "small")
    for method in ("target", "retrain", "npo"):
        content = filled(make(method, reason=MARKUP).model_dump(mode="json"))
        content["cell"] |= {"quantizer_params": more, "extra_tasks": [MARKUP]}
        content["cell"]["retrain_auc"] = {"source": "measured", "value": None, "model": MODEL}
        content["cell"]["training"]["corpus"]["source"] = MARKUP
        content |= {"bits": 4, "dtype": MARKUP, "extra": {MARKUP: {"value": 1.0, "stderr": None}}}
        documents = {"examples": [0], "scores": [1.0], "documents": [MARKUP]}
        content["examples"] = {MARKUP: documents, "verbmem": documents}
        content["provenance"] |= {"packages": more, "tasks": more, "git": MARKUP, "cuda": MARKUP}
        if method == "npo":
            content["cell"]["training"] |= {"params": more, "finetuning_params": more}
            content["cell"]["training"]["settings"] |= more
            content |= {"calibration": more}
            content["survival"] = {"update": UPDATE, "rounding": ROUNDING}
        answer = Sample(
            task="verbmem", example=0, prompt=MARKUP, response=MARKUP, reference=MARKUP, score=1.0
        )
        record = Record.model_validate(content)
        part = LayerSurvival.model_validate({"update": UPDATE, "rounding": {MARKUP: ROUNDING}})
        layers = {name: part for name in (MARKUP, f"layers.0.{MARKUP}", f"layers.1.{MARKUP}")}
        folder.write_survival(
            SurvivalReport(
                checkpoint=record.cell.training.stem,
                total=part,
                kinds={MARKUP: part},
                layers=layers,
            )
        )
        # not read through its folder: the name of its file has slashes in it
        records.append(read_record(folder.write_record(record, [answer])))
    texts = outputs(folder.path, MARKUP, records, build_table(records), [])
    assert len(texts) >= 6
    assert "survival.svg" in texts
    for name, text in texts.items():
        if name.endswith((".html", ".md", ".svg")):
            assert "<script>x" not in text, name
            assert "<img" not in text, name
        assert not {"\u202e", "\x1b"} & {*text}, name
    for row in csv.reader(texts["table.csv"].splitlines()):
        assert not [cell for cell in row if cell.startswith(("=", "+", "@", "\t"))]
    assert "script" in texts["table.csv"]  # shown, not removed
    screen = io.StringIO()
    print_table(Console(file=screen, width=200), MARKUP, build_table(records))
    assert not {"\u202e", "\x1b"} & {*screen.getvalue()}
