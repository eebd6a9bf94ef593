"""One unlearning run, from target model and text to the unlearned model."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import PreTrainedModel, TrainerCallback, set_seed

from ._data import ForgetRetainDataset
from ._trainer import LossLog, UnlearningTrainer, training_arguments
from .base import Unlearner, UnlearnerError, UnlearningData
from .reference import ReferenceBuilder, weights_digest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from .finetuning import Finetuning
    from .training import TrainingSettings


def run(
    unlearner: Unlearner,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    data: UnlearningData,
    *,
    finetuning: Finetuning,
    training: TrainingSettings,
    output_dir: Path,
    reference_cache: Path | None,
    callbacks: Sequence[TrainerCallback],
) -> PreTrainedModel:
    """See ``Unlearner.__call__``."""
    needs = unlearner.needs
    dataset = ForgetRetainDataset(
        tokenizer,
        data,
        window=training.window,
        needs_retain=bool(needs & {"retain", "retain_logits"}),
    )
    digest = weights_digest(model)
    _claim(output_dir, _fingerprint(unlearner, finetuning, training, dataset, digest))

    dtype, config = model.dtype, model.config.to_dict()
    edits = type(unlearner).edit is not Unlearner.edit
    originals = output_dir / "originals.safetensors" if edits else None
    set_seed(training.seed)
    trained = finetuning.prepare(model, getattr(torch, training.weights_dtype), originals)
    trainer = UnlearningTrainer(
        trained,
        training_arguments(training, output_dir),
        unlearner=unlearner,
        settings=training,
        dataset=dataset,
        callbacks=[LossLog(output_dir / "loss.jsonl"), *callbacks],
    )
    cache = reference_cache or output_dir / "reference"
    trainer.reference = ReferenceBuilder(
        trained,
        autocast=training.mixed_precision == "bf16",
        batch_size=training.batch_size,
        cache=cache,
        weights_digest=digest,
    ).build(dataset, needs)
    trainer.train(resume_from_checkpoint=_last_checkpoint(output_dir))

    trainer.accelerator.unwrap_model(trained, keep_fp32_wrapper=False)
    if finetuning.name == "lora":
        trained.save_pretrained(output_dir / "adapter")
    model = finetuning.finish(trained, dtype, originals, unlearner.edit)
    model.config = type(model.config).from_dict(config)
    model.zero_grad()
    if reference_cache is None:
        shutil.rmtree(cache, ignore_errors=True)
    return model.eval()


def _fingerprint(
    unlearner: Unlearner,
    finetuning: Finetuning,
    training: TrainingSettings,
    dataset: ForgetRetainDataset,
    digest: str,
) -> dict[str, Any]:
    windows = hashlib.sha256(dataset.forget.numpy().tobytes())
    if dataset.retain is not None:
        windows.update(dataset.retain.numpy().tobytes())
    return {
        "unlearner": {"class": type(unlearner).__qualname__, **unlearner.to_dict()},
        "finetuning": finetuning.to_dict(),
        "training": training.to_dict(),
        "windows_sha256": windows.hexdigest(),
        "weights_sha256": digest,
    }


def _claim(output_dir: Path, fingerprint: dict[str, Any]) -> None:
    """Take the folder for this run, or find that it already is its own."""
    output_dir.mkdir(parents=True, exist_ok=True)
    record = output_dir / "run.json"
    if record.exists():
        other = json.loads(record.read_text())
        for key, value in fingerprint.items():
            if other.get(key) != value:
                raise UnlearnerError(
                    f"output_dir {output_dir} holds another run: its {key} is {other.get(key)}, "
                    f"this run's is {value}; choose another folder"
                )
        return
    if _last_checkpoint(output_dir) is not None:
        raise UnlearnerError(f"output_dir {output_dir} holds checkpoints of an unknown run")
    partial = record.with_suffix(".partial")
    partial.write_text(json.dumps(fingerprint, indent=2) + "\n")
    partial.replace(record)


def _last_checkpoint(output_dir: Path) -> str | None:
    """The newest checkpoint that was written to its end (its state comes last)."""
    complete = [path.parent for path in output_dir.glob("checkpoint-*/trainer_state.json")]
    return str(max(complete, key=lambda p: int(p.name.split("-")[1]))) if complete else None
