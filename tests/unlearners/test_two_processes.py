"""Two processes under accelerate against one with the same global batch."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from accelerate import PartialState
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from unlearners import UnlearningData, get_unlearner
from unlearners.finetuning import get_finetuning

from .tiny_models import byte_tokenizer, settings, tiny_llama

ROOT = Path(__file__).parents[2]
RUNS = [("npo_klr", "full"), ("npo_klr", "lora"), ("task_vector", "full")]
DATA = UnlearningData(forget=["a quick brown fox jumps over the lazy dog. " * 3], retain=["x" * 50])


def unlearn(name: str, finetuning: str, output_dir: Path, batch_size: int) -> PreTrainedModel:
    params = {"dropout": 0} if finetuning == "lora" else {}
    return get_unlearner(name)(
        tiny_llama(),
        byte_tokenizer(bos_token="<s>"),
        DATA,
        finetuning=get_finetuning(finetuning, **params),
        training=settings(batch_size=batch_size, max_steps=6, save_steps=4),
        output_dir=output_dir,
    )


def one_of_two(out: Path) -> None:
    """What each of the two processes does."""
    for name, finetuning in RUNS:
        folder = out / f"{name}-{finetuning}"
        model = unlearn(name, finetuning, folder, batch_size=2)
        weights = {n: p.detach() for n, p in model.named_parameters()}
        save_file(weights, folder / f"{PartialState().process_index}.safetensors")


def test_two_processes_equal_one(tmp_path) -> None:
    """Nine windows: with two a process, the third step of an epoch has one, on one process."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "-m", __name__, str(tmp_path / "two")],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for name, finetuning in RUNS:
        folder = tmp_path / "two" / f"{name}-{finetuning}"
        model = unlearn(name, finetuning, tmp_path / f"{name}-{finetuning}", batch_size=4)
        logs = [
            [json.loads(line) for line in (path / "loss.jsonl").open()]
            for path in (folder, tmp_path / f"{name}-{finetuning}")
        ]
        for two, one in zip(*logs, strict=True):
            assert two == pytest.approx(one, rel=1e-4, abs=1e-6)
        ranks = [load_file(folder / f"{rank}.safetensors") for rank in (0, 1)]
        for key, parameter in model.named_parameters():
            assert torch.equal(ranks[0][key], ranks[1][key])
            torch.testing.assert_close(ranks[0][key], parameter.detach(), atol=1e-4, rtol=0)


if __name__ == "__main__":
    one_of_two(Path(sys.argv[1]))
