"""``unlearn`` under ``accelerate launch``: all processes train, the main one saves."""

import json
import os
import subprocess
import sys
from pathlib import Path

import torch
from rich.console import Console
from transformers import AutoModelForCausalLM

from leaderboard.config import CorpusEntry, ModelSource, UnlearnEntry
from leaderboard.execution.single_model import unlearn_to_folder
from leaderboard.progress import Progress

ROOT = Path(__file__).parents[3]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return AutoModelForCausalLM.from_pretrained(folder).state_dict()


def test_two_processes_save_one_model(small_world, tmp_path) -> None:
    settings = {"window": 64, "max_steps": 2, "learning_rate": 1e-3, "save_steps": 1}
    options = [f"--training={name}={value}" for name, value in settings.items()]
    launch = [
        *(sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes=2"),
        *("--num_machines=1", "--mixed_precision=no", "--dynamo_backend=no"),
        *("--main_process_port=0", "-m", "leaderboard", "unlearn", "--method=npo_gdr"),
        *("--finetuning=full", f"--model={small_world.target}", f"--corpus={small_world.corpus}"),
        *(f"--out={tmp_path / 'two'}", "--training=batch_size=2", *options),
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    (tmp_path / "two").mkdir()  # an empty folder is as good as none, to both
    done = subprocess.run(launch, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("written: ") == 1, done.stderr

    unlearn_to_folder(
        UnlearnEntry(method="npo_gdr", finetuning="full", training=settings | {"batch_size": 4}),
        ModelSource(path=str(small_world.target)),
        CorpusEntry(name=str(small_world.corpus)),
        tmp_path / "one",
        Progress(Console(quiet=True)),
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]
    one, two = (
        sorted(str(path.relative_to(tmp_path / run)) for path in (tmp_path / run).rglob("*"))
        for run in ("one", "two")
    )
    assert one == two and "training/loss.png" in two
    logs = [
        [json.loads(line)["loss"] for line in (tmp_path / run / "training/loss.jsonl").open()]
        for run in ("one", "two")
    ]
    torch.testing.assert_close(*map(torch.tensor, logs))
    torch.testing.assert_close(
        weights(tmp_path / "one"), weights(tmp_path / "two"), atol=1e-4, rtol=0
    )
