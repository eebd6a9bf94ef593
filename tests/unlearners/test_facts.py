"""The facts that a run writes at its end."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from transformers import TrainerCallback

from unlearners.facts import TrainingFacts, read_training_facts, write_training_facts
from unlearners.finetuning import FullFinetuning, LoRA

from .tiny_models import tiny_llama

FACTS = TrainingFacts(
    device="cpu",
    processes=1,
    batch_size=2,
    gradient_accumulation_steps=3,
    effective_batch_size=6,
    steps=4,
    parameters=34_720,
    trained_parameters=34_720,
    adapted_parameters=34_720,
    changed_weights=True,
)


@pytest.mark.parametrize(
    ("name", "finetuning", "trained", "adapted"),
    [
        ("npo_klr", FullFinetuning(), 34_720, 34_720),
        ("npo_klr", LoRA(rank=2), 1_856, 15_360),
        ("sure", FullFinetuning(), 34_560, 34_560),
    ],
)
def test_facts_of_a_run(name, finetuning, trained, adapted, run, tmp_path) -> None:
    """Seven windows, two a batch, three batches a step: two steps an epoch, four in two epochs.

    Embeddings and head have 300 × 32 weights each. A layer has 3,072 in its attention (two of
    32 × 32, two of 16 × 32), 3 × 32 × 48 in its MLP and 64 in its norms: 7,744. Two layers and the
    last norm (32) make 34,720. An adapter of rank 2 has 2 × (rows + columns) for each matrix of a
    layer: 128 + 96 + 96 + 128 + 3 × 160 = 928, for matrices of 2 × (3,072 + 4,608) = 15,360. SURE
    freezes the five norms: 160 fewer.
    """
    training = {"batch_size": 2, "gradient_accumulation_steps": 3, "epochs": 2, "max_steps": None}
    run(name, tiny_llama(), finetuning, output_dir=tmp_path, **training)
    counts = {"trained_parameters": trained, "adapted_parameters": adapted}
    assert read_training_facts(tmp_path) == FACTS.model_copy(update=counts)
    assert json.loads((tmp_path / "facts.json").read_text())["effective_batch_size"] == 6


@pytest.mark.parametrize("finetuning", [FullFinetuning(), LoRA(rank=2)])
def test_steps_too_small_for_any_weight(finetuning, run, tmp_path) -> None:
    run("npo", tiny_llama(), finetuning, output_dir=tmp_path, learning_rate=1e-30)
    facts = read_training_facts(tmp_path)
    assert facts is not None and facts.changed_weights is False


def test_a_tied_weight_counts_once(run, tmp_path) -> None:
    run("ga", tiny_llama(tie_word_embeddings=True), output_dir=tmp_path)
    facts = read_training_facts(tmp_path)
    assert facts is not None
    assert facts.parameters == facts.trained_parameters == 34_720 - 300 * 32


def test_facts_of_a_resumed_run_are_the_same(run, tmp_path) -> None:
    """Killed in step 3 of 5, with a checkpoint after step 2; no facts before the end."""

    class Kill(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs) -> None:
            if state.global_step == 3:
                raise KeyboardInterrupt

    training = {"max_steps": 5, "save_steps": 2}
    run("ga_gdr", tiny_llama(), output_dir=tmp_path / "whole", **training)
    with pytest.raises(KeyboardInterrupt):
        run("ga_gdr", tiny_llama(), output_dir=tmp_path / "killed", callbacks=[Kill()], **training)
    assert read_training_facts(tmp_path / "killed") is None
    run("ga_gdr", tiny_llama(), output_dir=tmp_path / "killed", **training)
    whole, killed = (read_training_facts(tmp_path / name) for name in ("whole", "killed"))
    assert whole is not None and whole.steps == 5
    assert killed == whole


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"\xff", b"{}", json.dumps(FACTS.model_dump() | {"steps": "4"})],
)
def test_damaged_facts_are_none(content, tmp_path) -> None:
    write_training_facts(tmp_path, FACTS)
    assert read_training_facts(tmp_path) == FACTS
    assert [path.name for path in tmp_path.iterdir()] == ["facts.json"]
    content = content if isinstance(content, bytes) else content.encode()
    (tmp_path / "facts.json").write_bytes(content)
    assert read_training_facts(tmp_path) is None


def test_reading_loads_no_torch(tmp_path) -> None:
    write_training_facts(tmp_path, FACTS)
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from unlearners.facts import read_training_facts\n"
        f"assert read_training_facts(Path({str(tmp_path)!r})).steps == 4\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
