"""Work on a single model through functions: what is written, and refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from leaderboard.config import CorpusEntry, ModelSource, UnlearnEntry
from leaderboard.errors import InputError
from leaderboard.execution.single_model import (
    compare_update,
    quantize_to_folder,
    unlearn_to_folder,
)
from leaderboard.progress import Progress
from quantizers import get_quantizer


def test_quantized_folder_holds_the_quantizers_weights(small_world: Any, tmp_path: Path) -> None:
    folder = tmp_path / "quantized"
    folder.mkdir()
    quantize_to_folder(str(small_world.target), None, "rtn-int4", {"group_size": 16}, folder)
    target = AutoModelForCausalLM.from_pretrained(small_world.target)
    before = {name: weight.clone() for name, weight in target.state_dict().items()}
    expected = get_quantizer("rtn-int4", group_size=16)(target).state_dict()
    found = AutoModelForCausalLM.from_pretrained(folder).state_dict()
    assert found.keys() == expected.keys()
    for name, weight in expected.items():
        torch.testing.assert_close(found[name], weight, atol=0, rtol=0)
    assert any(not found[name].equal(weight) for name, weight in before.items())
    assert json.loads((folder / "quantizer.json").read_text())["quantizer"] == "rtn-int4"
    assert AutoTokenizer.from_pretrained(folder)("Mila")["input_ids"]


def test_folder_with_content_is_refused(
    small_world: Any, tmp_path: Path, progress: Progress
) -> None:
    (tmp_path / "mine.txt").touch()
    target = str(small_world.target)
    corpus = CorpusEntry(name=str(small_world.corpus))
    with pytest.raises(InputError, match="is not empty: choose another --out"):
        quantize_to_folder(target, None, "rtn-int4", {}, tmp_path)
    entry = UnlearnEntry(method="npo", finetuning="full")
    with pytest.raises(InputError, match="is not empty: choose another --out"):
        unlearn_to_folder(entry, ModelSource(path=target), corpus, tmp_path, progress)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_update_of_one_layer_is_measured(small_world: Any, tmp_path: Path) -> None:
    """A single projection scaled by 1.5: half its own norm, all in that layer."""
    model = AutoModelForCausalLM.from_pretrained(small_world.target)
    layer = model.model.layers[1].self_attn.q_proj
    norm = layer.weight.norm().item() / 2
    with torch.no_grad():
        layer.weight.mul_(1.5)
    model.save_pretrained(tmp_path / "unlearned")
    AutoTokenizer.from_pretrained(small_world.target).save_pretrained(tmp_path / "unlearned")
    report = compare_update(
        ModelSource(path=str(small_world.target)),
        tmp_path / "unlearned",
        {"four": get_quantizer("rtn-int4"), "eight": get_quantizer("rtn-int8")},
    )
    assert report.total.update.norm == pytest.approx(norm, rel=1e-4)
    moved = {name for name, layer in report.layers.items() if layer.update.norm > 0}
    assert moved == {"model.layers.1.self_attn.q_proj"}
    assert set(report.total.rounding) == {"four", "eight"}
    kept = report.total.rounding["eight"].kept_share
    assert kept == pytest.approx(1, abs=0.05)
