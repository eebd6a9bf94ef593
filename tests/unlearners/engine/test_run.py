"""A killed and resumed run gives the result of an uninterrupted one."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback

from unlearners import UnlearnerError
from unlearners.files import write_checksums
from unlearners.finetuning import FullFinetuning, LoRA

from ..tiny_models import settings, tiny_gpt2, tiny_llama


class Killed(Exception):
    pass


class KillAfter(TrainerCallback):
    """A kill after the update of a step, before anything is written."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args, state, control, **kwargs) -> None:
        if state.global_step == self.step:
            raise Killed


def killed(run, step: int, *args, **kwargs) -> None:
    with pytest.raises(Killed):
        run(*args, callbacks=[KillAfter(step)], **kwargs)


CASES = {
    "full": ("npo_klr", tiny_llama, FullFinetuning(), {}),
    "lora": ("npo_klr", tiny_llama, LoRA(rank=2, dropout=0.3), {}),
    "bfloat16-adapter": ("ga_gdr", tiny_llama, LoRA(rank=2), {"weights_dtype": "bfloat16"}),
    "bfloat16-weights": ("ga_gdr", tiny_llama, FullFinetuning(), {"weights_dtype": "bfloat16"}),
    "dropout-accumulation-schedule": (
        "npo_gdr",
        tiny_gpt2,
        FullFinetuning(),
        {"batch_size": 2, "gradient_accumulation_steps": 2, "lr_scheduler": "linear"},
    ),
    "mask-and-decay": ("sure", tiny_llama, FullFinetuning(), {"weight_decay": 0.1}),
    "tied-embeddings": (
        "npo_gdr",
        lambda: tiny_llama(tie_word_embeddings=True),
        FullFinetuning(),
        {},
    ),
    "edit": ("task_vector", tiny_llama, FullFinetuning(), {"mixed_precision": "bf16"}),
}


@pytest.mark.parametrize("case", CASES)
def test_resumed_equals_uninterrupted(case, run, tmp_path) -> None:
    """Five steps, two an epoch; checkpoints after steps 2 and 4; killed in steps 1, 3 and 5."""
    name, make_model, finetuning, training = CASES[case]
    training = {"max_steps": 5, "save_steps": 2} | training
    expected = run(name, make_model(), finetuning, output_dir=tmp_path / "whole", **training)
    folder = tmp_path / "killed"
    for step in (1, 3, 5):
        killed(run, step, name, make_model(), finetuning, output_dir=folder, **training)
    assert (folder / "checkpoint-4").exists()
    resumed = run(name, make_model(), finetuning, output_dir=folder, **training)

    for (key, one), other in zip(expected.named_parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other), key
    assert (folder / "loss.jsonl").read_text() == (tmp_path / "whole" / "loss.jsonl").read_text()


def test_a_killed_run_keeps_the_losses_up_to_its_last_step(run, tmp_path) -> None:
    killed(run, 3, "ga", tiny_llama(), output_dir=tmp_path / "run", max_steps=5)
    lines = (tmp_path / "run" / "loss.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2]


def test_without_checkpoints_it_starts_again(run, tmp_path) -> None:
    expected = run("ga_gdr", tiny_llama(), output_dir=tmp_path / "whole")
    killed(run, 2, "ga_gdr", tiny_llama(), output_dir=tmp_path / "run")
    resumed = run("ga_gdr", tiny_llama(), output_dir=tmp_path / "run")
    assert torch.equal(expected.lm_head.weight, resumed.lm_head.weight)


def test_a_checkpoint_that_was_being_written_is_passed_over(run, tmp_path) -> None:
    """The Trainer writes its state last: without it, or with half of it, there is none yet."""
    training = {"max_steps": 5, "save_steps": 2}
    expected = run("ga_gdr", tiny_llama(), output_dir=tmp_path / "whole", **training)
    folder = tmp_path / "run"
    killed(run, 3, "ga_gdr", tiny_llama(), output_dir=folder, **training)
    for step in (3, 4):
        shutil.copytree(folder / "checkpoint-2", folder / f"checkpoint-{step}")
        (folder / f"checkpoint-{step}" / "model.safetensors").write_bytes(b"")
    (folder / "checkpoint-3" / "trainer_state.json").unlink()
    (folder / "checkpoint-4" / "trainer_state.json").write_text('{"epoch": 1')
    resumed = run("ga_gdr", tiny_llama(), output_dir=folder, **training)
    assert torch.equal(expected.lm_head.weight, resumed.lm_head.weight)


def test_the_newest_checkpoint_is_that_of_the_last_step(run, tmp_path) -> None:
    """Times do not count: here the clock is set back between steps 2 and 4."""
    training = {"max_steps": 5, "save_steps": 2}
    expected = run("ga_gdr", tiny_llama(), output_dir=tmp_path / "whole", **training)
    folder = tmp_path / "run"
    killed(run, 3, "ga_gdr", tiny_llama(), output_dir=folder, **training)
    os.utime(folder / "checkpoint-2", (4e9, 4e9))
    killed(run, 5, "ga_gdr", tiny_llama(), output_dir=folder, **training)
    assert [path.name for path in folder.glob("checkpoint-*")] == ["checkpoint-4"]
    resumed = run("ga_gdr", tiny_llama(), output_dir=folder, **training)
    assert torch.equal(expected.lm_head.weight, resumed.lm_head.weight)


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt"])
def test_a_damaged_checkpoint_is_passed_over(name, run, tmp_path) -> None:
    training = {"max_steps": 5, "save_steps": 2}
    expected = run("ga_gdr", tiny_llama(), output_dir=tmp_path / "whole", **training)
    folder = tmp_path / "run"
    killed(run, 3, "ga_gdr", tiny_llama(), output_dir=folder, **training)
    file = folder / "checkpoint-2" / name
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    resumed = run("ga_gdr", tiny_llama(), output_dir=folder, **training)
    assert torch.equal(expected.lm_head.weight, resumed.lm_head.weight)


def test_a_checkpoint_without_some_weights_is_refused(run, tmp_path) -> None:
    training = {"max_steps": 5, "save_steps": 2, "output_dir": tmp_path}
    killed(run, 3, "ga_gdr", tiny_llama(), **training)
    file = tmp_path / "checkpoint-2" / "model.safetensors"
    weights = load_file(file)
    del weights["model.norm.weight"]
    save_file(weights, file, metadata={"format": "pt"})
    write_checksums(file.parent)
    with pytest.raises(UnlearnerError, match=r"does not fit .*: model\.norm\.weight"):
        run("ga_gdr", tiny_llama(), **training)


def test_a_finished_run_called_again_gives_the_same_model(run, tmp_path) -> None:
    calls = [
        run("npo", tiny_llama(), output_dir=tmp_path / "run", max_steps=5, save_steps=2)
        for _ in range(2)
    ]
    assert torch.equal(calls[0].lm_head.weight, calls[1].lm_head.weight)


def test_what_stays_in_the_folder(run, tmp_path) -> None:
    """One checkpoint at most, none of the last step; no reference, no originals."""
    run("npo_klr", tiny_llama(), LoRA(), output_dir=tmp_path, max_steps=5, save_steps=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "adapter",
        "checkpoint-4",
        "facts.json",
        "loss.jsonl",
        "run.json",
    ]
    run("task_vector", tiny_llama(), output_dir=tmp_path / "edit")
    files = sorted(path.name for path in (tmp_path / "edit").iterdir())
    assert files == ["facts.json", "loss.jsonl", "run.json"]


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        (
            {"name": "npo"},
            "unlearner class is 'unlearners.methods.gradient_ascent.GradientAscent', not",
        ),
        ({"params": {"retain_weight": 2}}, "unlearner retain_weight is 1.0, not 2.0"),
        ({"finetuning": LoRA()}, "finetuning name is 'full', not 'lora'"),
        ({"learning_rate": 2e-3}, "training learning_rate is 0.001, not 0.002"),
        ({"model": tiny_llama(initializer_range=0.11)}, "sha256 model is"),
        ({"window": 15}, "training window is 16, not 15"),
    ],
)
def test_another_run_in_the_same_folder_is_refused(change, difference, run, tmp_path) -> None:
    first = {"name": "ga_gdr", "model": tiny_llama(), "finetuning": FullFinetuning()}
    run(**first, output_dir=tmp_path, max_steps=1)
    with pytest.raises(UnlearnerError, match=f"holds another run: its {difference}") as caught:
        run(**first | {"model": tiny_llama()} | change, output_dir=tmp_path, max_steps=1)
    assert str(tmp_path) in str(caught.value)


def test_other_text_in_the_same_folder_is_refused(run, tokenizer, data, tmp_path) -> None:
    from unlearners import UnlearningData, get_unlearner

    run("ga_gdr", tiny_llama(), output_dir=tmp_path, max_steps=1)
    with pytest.raises(UnlearnerError, match="its sha256 windows is"):
        get_unlearner("ga_gdr")(
            tiny_llama(),
            tokenizer,
            UnlearningData(forget=data.forget, retain=["Other text to keep."]),
            finetuning=FullFinetuning(),
            training=settings(max_steps=1),
            output_dir=tmp_path,
        )


@pytest.mark.parametrize(("recorded", "found"), [({"processes": 2}, "2"), (None, "None")])
def test_another_number_of_processes_is_refused(recorded, found, run, tmp_path) -> None:
    """It determines the windows of a step; older folders do not record it."""
    killed(run, 3, "ga", tiny_llama(), output_dir=tmp_path, save_steps=2)
    record = tmp_path / "run.json"
    content = json.loads(record.read_text())
    assert content.pop("launch") == {"processes": 1}
    record.write_text(json.dumps(content | ({"launch": recorded} if recorded else {})))
    with pytest.raises(UnlearnerError, match=f"its launch processes is {found}, not 1; choose"):
        run("ga", tiny_llama(), output_dir=tmp_path, save_steps=2)


def test_checkpoints_of_an_unknown_run_are_refused(run, tmp_path) -> None:
    killed(run, 3, "ga", tiny_llama(), output_dir=tmp_path, save_steps=2)
    Path(tmp_path / "run.json").unlink()
    with pytest.raises(UnlearnerError, match=r"holds checkpoints but no run\.json"):
        run("ga", tiny_llama(), output_dir=tmp_path, save_steps=2)
