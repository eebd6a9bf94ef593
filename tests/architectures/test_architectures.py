"""A sample of the matrix of ``make architectures``, and faults that its checks must see."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness_tasks.lm import MuseHFLM
from unlearners import losses

from . import table
from .row import run_row

SAMPLE = {
    "llama": "hf 1, hf-muse 5, full npo_gdr, lora npo_klr, rtn-int4",
    "gpt2": "hf-muse 5, full npo_klr, lora npo_gdr, quanto-int4",  # Conv1D, a tied head
    "qwen3_moe": "hf-muse 5, full npo_gdr, lora npo_klr, rtn-int4, bnb-fp4",
    "gemma2": "hf-muse 5, full npo_klr, bnb-fp4",  # logits are capped
    "mamba": "hf-muse 5, full npo_gdr, rtn-int4, bnb-fp4",
    "gpt_oss": "hf-muse 5, lora npo_gdr, rtn-int4, quanto-int4",
    "gemma3": "hf-muse 5, full npo_gdr, lora npo_klr, rtn-int4, quanto-int4",  # images too
}
REFUSED = {
    ("qwen3_moe", "bnb-fp4"): "holds the weights of several experts in one tensor",
    ("gpt_oss", "quanto-int4"): "holds the weights of several experts in one tensor",
    ("mamba", "bnb-fp4"): "its weight read by MambaForCausalLM itself",
}


@pytest.mark.parametrize("model_type", SAMPLE)
def test_sample(model_type: str, tmp_path: Path) -> None:
    row = run_row(model_type, tmp_path, SAMPLE[model_type].split(", "))
    assert row["distinct"] >= table.ENOUGH
    for column, cell in row["cells"].items():
        if line := REFUSED.get((model_type, column)):
            assert (cell["verdict"], line in cell["line"]) == ("refused", True)
        else:
            assert (column, cell["verdict"], cell["line"]) == (column, "works", ""), cell["trace"]


def verdicts(model_type: str, place: Path, *columns: str) -> dict[str, tuple[str, str]]:
    cells = run_row(model_type, place, columns)["cells"]
    return {column: (cell["verdict"], cell["line"]) for column, cell in cells.items()}


def test_faults_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong answer of ours, a wrong loss, and a layer that is not quantized."""
    npo = losses.npo
    monkeypatch.setattr(losses, "npo", lambda ratio, beta: 1.01 * npo(ratio, beta))
    generate = MuseHFLM.generate_until

    def without_last_letter(self: Any, requests: list[Any], *args: Any, **kwargs: Any) -> list[str]:
        return [text[:-1] for text in generate(self, requests, *args, **kwargs)]

    monkeypatch.setattr(MuseHFLM, "generate_until", without_last_letter)
    found = verdicts("llama", tmp_path, "hf-muse 5", "lora npo_gdr")
    assert {verdict for verdict, _ in found.values()} == {"WRONG"}
    assert "5 of 5 texts differ" in found["hf-muse 5"][1]
    assert "the first loss of NPO is 14, not 13.86" in found["lora npo_gdr"][1]


def test_encoder_is_refused(tmp_path: Path) -> None:
    found = verdicts("bart", tmp_path, "hf-muse 1", "full npo_gdr", "rtn-int4")
    assert {verdict for verdict, _ in found.values()} == {"refused"}
