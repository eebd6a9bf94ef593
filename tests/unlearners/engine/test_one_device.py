"""A process without a launcher trains on one device, that of the model."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from accelerate import PartialState
from accelerate.state import AcceleratorState

from unlearners.engine.trainer import training_arguments
from unlearners.finetuning import FullFinetuning, LoRA

from ..tiny_models import settings, tiny_llama


@pytest.fixture
def four_gpus(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[torch.device]]:
    """The Trainer sees four GPUs; yields the devices that were made the current one."""
    current: list[torch.device] = []
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    yield current
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.parametrize("finetuning", [FullFinetuning(), LoRA(rank=2)], ids=lambda f: f.name)
def test_visible_gpus_change_neither_steps_nor_weights(finetuning, run, tmp_path, request) -> None:
    """Seven windows in batches of two: four steps an epoch, eight in two epochs.

    With ``nn.DataParallel`` on four GPUs a batch would have eight windows: two steps.
    """
    training = {"batch_size": 2, "epochs": 2, "max_steps": None}
    alone = run("npo_gdr", tiny_llama(), finetuning, output_dir=tmp_path / "alone", **training)
    request.getfixturevalue("four_gpus")
    among = run("npo_gdr", tiny_llama(), finetuning, output_dir=tmp_path / "among", **training)
    losses = [(tmp_path / name / "loss.jsonl").read_text() for name in ("alone", "among")]
    assert losses[0] == losses[1] and len(losses[0].splitlines()) == 8
    for (name, one), other in zip(alone.named_parameters(), among.parameters(), strict=True):
        assert torch.equal(one, other), name


@pytest.mark.parametrize("device", ["cuda:1", "cpu"])
def test_training_stays_on_the_device_of_the_model(device, four_gpus, tmp_path) -> None:
    """Everything that the Trainer and its Accelerator read names that device, and one GPU."""
    arguments = training_arguments(settings(batch_size=3), tmp_path, torch.device(device))
    assert arguments.device == PartialState().device == torch.device(device)
    assert arguments.n_gpu == 1 and arguments.train_batch_size == 3
    assert four_gpus[-1:] == ([torch.device(device)] if device == "cuda:1" else [])


def test_launched_processes_keep_the_devices_of_their_launcher(
    four_gpus, monkeypatch, tmp_path
) -> None:
    from accelerate.utils import DistributedType

    started = PartialState.__init__

    def launched(self, *args, **kwargs) -> None:
        started(self, *args, **kwargs)
        self.distributed_type, self.device = DistributedType.MULTI_GPU, torch.device("cuda:3")

    monkeypatch.setattr(PartialState, "__init__", launched)
    arguments = training_arguments(settings(), tmp_path, torch.device("cuda:0"))
    assert arguments.device == PartialState().device == torch.device("cuda:3")
    assert four_gpus == []
