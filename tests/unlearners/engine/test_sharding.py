"""Two processes under accelerate, weights copied or split, against one with their global batch."""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate import PartialState
from accelerate.utils import DistributedType
from safetensors.torch import load_file, save_file
from torch import nn
from torch.distributed.fsdp import StateDictType
from transformers import PreTrainedModel, TrainerCallback

from unlearners import UnlearnerError, UnlearningData, get_unlearner
from unlearners.engine.sharding import refuse_unfit
from unlearners.facts import read_training_facts
from unlearners.finetuning import get_finetuning

from ..tiny_models import byte_tokenizer, settings, tiny_llama

ROOT = Path(__file__).parents[3]
CONFIGS = ROOT / "leaderboard" / "configs" / "accelerate"
RUNS = [("npo_klr", "full"), ("npo_klr", "lora"), ("task_vector", "full")]
DATA = UnlearningData(forget=["a quick brown fox jumps over the lazy dog. " * 3], retain=["x" * 50])
LAUNCH = {
    "ddp": ["--multi_gpu", "--num_machines=1", "--mixed_precision=no", "--dynamo_backend=no"],
    "fsdp": [f"--config_file={CONFIGS / 'fsdp.yaml'}"],
    "deepspeed": [f"--config_file={CONFIGS / 'deepspeed_zero3.yaml'}"],
}


def unlearn(
    name: str,
    finetuning: str,
    output_dir: Path,
    batch_size: int,
    save_steps: int | None = 4,
    callbacks: Sequence[TrainerCallback] = (),
) -> PreTrainedModel:
    params = {"dropout": 0} if finetuning == "lora" else {}
    return get_unlearner(name)(
        tiny_llama(),
        byte_tokenizer(bos_token="<s>"),
        DATA,
        finetuning=get_finetuning(finetuning, **params),
        training=settings(batch_size=batch_size, max_steps=6, save_steps=save_steps),
        output_dir=output_dir,
        callbacks=callbacks,
    )


def take_the_cpu_for_an_accelerator() -> None:
    """Weights can be split on a CPU too; only accelerate's choice of backend forbids it."""
    PartialState._prepare_backend = lambda *args, **kwargs: ("gloo", DistributedType.MULTI_GPU)
    PartialState.set_device = lambda state: setattr(state, "device", torch.device("cpu"))
    torch.accelerator.is_available = lambda: True


def share_here(parameter: nn.Parameter) -> float:
    """Share of a parameter's elements that this process holds."""
    if hasattr(parameter, "ds_tensor"):
        return parameter.ds_tensor.numel() / parameter.ds_numel
    local = parameter.to_local() if hasattr(parameter, "to_local") else parameter
    return local.numel() / parameter.numel()


class Killed(Exception):
    """The end of a process."""


class Watch(TrainerCallback):
    """Records how the weights are split, and ends the run after a step."""

    def __init__(self, last: int | None) -> None:
        self.last = last

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.shares = {share_here(parameter) for parameter in kwargs["model"].parameters()}
        if state.global_step == self.last:
            raise Killed


def one_of_two(kind: str, out: Path) -> None:
    """Run every method and save the weights; both processes do this."""
    save_steps = None if kind == "deepspeed" else 4
    killed = kind == "fsdp"  # on plain CPU processes the Trainer would load to "cpu:0", and fails
    if kind != "ddp":
        take_the_cpu_for_an_accelerator()
    for name, finetuning in RUNS:
        folder = out / f"{name}-{finetuning}"
        if killed:
            with pytest.raises(Killed):
                unlearn(name, finetuning, folder, 2, save_steps, [Watch(last=5)])
        watch = Watch(last=None)
        model = unlearn(name, finetuning, folder, 2, save_steps, [watch])
        assert PartialState().num_processes == 2
        assert watch.shares == {1.0} if kind == "ddp" else max(watch.shares) < 0.6
        assert all(parameter.requires_grad for parameter in model.parameters())
        assert model.config.use_cache
        weights = {n: p.detach() for n, p in model.named_parameters()}
        save_file(weights, folder / f"{PartialState().process_index}.safetensors")


@pytest.mark.parametrize("kind", LAUNCH)
def test_two_processes_equal_one(kind, tmp_path) -> None:
    """Nine windows: with two a process, the third step of an epoch has one, on one process.

    Under FSDP the two are killed after a checkpoint, and resumed.
    """
    if kind == "deepspeed" and importlib.util.find_spec("deepspeed") is None:
        pytest.skip("deepspeed is not installed")
    command = [sys.executable, "-m", "accelerate.commands.launch", *LAUNCH[kind]]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [
            *command,
            *("--num_processes=2", "--main_process_port=0", "-m", __name__),
            *(kind, str(tmp_path / "two")),
        ],
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
        two, one = (
            read_training_facts(path) for path in (folder, tmp_path / f"{name}-{finetuning}")
        )
        assert (two.processes, two.batch_size, two.effective_batch_size) == (2, 2, 4)
        assert (one.processes, one.batch_size, one.effective_batch_size) == (1, 4, 4)
        changed = {"processes": 1, "batch_size": 4}
        assert two.model_copy(update=changed) == one


def launched(kind: str, mixed_precision: str = "no", **fsdp: Any) -> Any:
    """The attributes of an Accelerator that a launch sets."""
    shipped = {
        "fsdp_version": 2,
        "cpu_ram_efficient_loading": False,
        "state_dict_type": StateDictType.FULL_STATE_DICT,
    }
    plugin = SimpleNamespace(**shipped | fsdp) if kind == "FSDP" else None
    return SimpleNamespace(
        distributed_type=DistributedType(kind),
        mixed_precision=mixed_precision,
        state=SimpleNamespace(fsdp_plugin=plugin),
    )


@pytest.mark.parametrize(
    ("accelerator", "method", "training", "message"),
    [
        (launched("NO", "bf16"), "ga", {}, "mixed_precision=bf16: launch with 'no'"),
        (launched("FSDP", fsdp_version=1), "ga", {}, "fsdp_version 2"),
        (launched("FSDP", cpu_ram_efficient_loading=True), "ga", {}, "efficient_loading false"),
        (launched("FSDP"), "sure", {}, "SURE works on whole weights while it trains"),
        (
            launched("FSDP", "bf16"),
            "ga",
            {"weights_dtype": "bfloat16", "mixed_precision": "bf16"},
            "set weights_dtype='float32'",
        ),
        (
            launched("FSDP", state_dict_type=StateDictType.SHARDED_STATE_DICT),
            "ga",
            {"save_steps": 5},
            "save_steps=5: .* FULL_STATE_DICT",
        ),
        (launched("DEEPSPEED"), "ga", {"save_steps": 5}, "set save_steps=None"),
    ],
)
def test_a_launch_that_would_change_the_settings_is_refused(
    accelerator, method, training, message
) -> None:
    with pytest.raises(UnlearnerError, match=message):
        refuse_unfit(accelerator, get_unlearner(method), settings(**training))


def test_launches_that_fit_are_not_refused() -> None:
    for accelerator in (launched("NO"), launched("FSDP"), launched("MULTI_GPU")):
        refuse_unfit(accelerator, get_unlearner("npo_klr"), settings(save_steps=5))
    refuse_unfit(launched("DEEPSPEED"), get_unlearner("npo_klr"), settings())
    refuse_unfit(launched("MULTI_GPU"), get_unlearner("sure"), settings(save_steps=5))


if __name__ == "__main__":
    one_of_two(sys.argv[1], Path(sys.argv[2]))
