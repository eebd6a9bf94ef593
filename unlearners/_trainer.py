"""The Hugging Face Trainer with an unlearner's loss."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from ._data import Batch, ForgetRetainDataset
from .base import DivergedError, Unlearner
from .reference import Reference
from .training import TrainingSettings


def training_arguments(settings: TrainingSettings, output_dir: Path) -> TrainingArguments:
    """The settings in the Trainer's own terms."""
    return TrainingArguments(
        output_dir=str(output_dir),
        learning_rate=settings.learning_rate,
        num_train_epochs=settings.epochs,
        max_steps=settings.max_steps or -1,
        per_device_train_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.gradient_accumulation_steps,
        lr_scheduler_type=settings.lr_scheduler,
        warmup_steps=settings.warmup_ratio,
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        seed=settings.seed,
        data_seed=settings.seed,
        bf16=settings.mixed_precision == "bf16",
        gradient_checkpointing=settings.gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False},
        save_strategy="no" if settings.save_steps is None else "steps",
        save_steps=settings.save_steps or 1,
        save_total_limit=1,
        report_to=list(settings.report_to),
        logging_steps=1,
        logging_nan_inf_filter=False,
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=torch.cuda.is_available(),
    )


class UnlearningTrainer(Trainer):
    """Trainer whose loss is an unlearner's.

    A step's loss is the mean over all its windows, however they fall into accumulated batches
    and processes.
    """

    reference: Reference

    def __init__(
        self,
        model: PreTrainedModel,
        args: TrainingArguments,
        *,
        unlearner: Unlearner,
        settings: TrainingSettings,
        dataset: ForgetRetainDataset,
        callbacks: list[TrainerCallback],
    ) -> None:
        super().__init__(
            model,
            args,
            train_dataset=dataset,
            data_collator=dataset.collate,
            callbacks=callbacks,
        )
        self.remove_callback(PrinterCallback)
        # compute_loss returns a mean: the Trainer is to divide it by the accumulation steps.
        self.model_accepts_loss_kwargs = False
        self._unlearner = unlearner
        self._settings = settings
        self._windows_per_batch = 1.0
        self._terms: dict[str, torch.Tensor] = {}

    def create_optimizer(self, model: torch.nn.Module | None = None) -> torch.optim.Optimizer:
        """The unlearner's optimizer, with weight decay where the Trainer would apply it."""
        if self.optimizer is None:
            model = self.model if model is None else model
            decayed = set(self.get_decay_parameter_names(model))
            trained = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
            groups = [
                {"params": [p for n, p in trained if (n in decayed) is decay], "weight_decay": rate}
                for decay, rate in ((True, self._settings.weight_decay), (False, 0.0))
            ]
            self.optimizer = self._unlearner.create_optimizer(groups, self._settings)
        return self.optimizer

    def get_batch_samples(
        self, epoch_iterator: Iterator, num_batches: int, device: torch.device
    ) -> tuple[list, torch.Tensor | int | None]:
        """The batches of one step; notes their mean number of windows over all processes."""
        batches, items = super().get_batch_samples(epoch_iterator, num_batches, device)
        sizes = [float(len(batch["forget"]["index"])) for batch in batches]
        mean = torch.tensor(sum(sizes) / max(len(sizes), 1), device=device)
        self._windows_per_batch = self.accelerator.reduce(mean, "mean").item()
        self._terms = {}
        return batches, items

    def compute_loss(
        self, model: PreTrainedModel, inputs: dict[str, Any], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """The unlearner's loss of one batch, weighted by the batch's share of the step."""
        batch = Batch.from_tensors(inputs)
        terms = self._unlearner.loss(model, batch, self.reference)
        weight = len(batch.forget) / self._windows_per_batch
        for name, value in terms.items():
            share = value.detach() * weight / self.current_gradient_accumulation_steps
            self._terms[name] = self._terms.get(name, 0.0) + share
        return terms["loss"] * weight

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the terms of the loss.

        Raises:
            DivergedError: loss or gradient norm is not finite; before a checkpoint is written.
        """
        if "loss" in logs:
            names = sorted(self._terms)
            values = torch.stack([self._terms[name].float() for name in names])
            logs |= dict(zip(names, self.accelerator.reduce(values, "mean").tolist(), strict=True))
            if not (math.isfinite(logs["loss"]) and math.isfinite(logs["grad_norm"])):
                raise DivergedError(self.state.global_step, logs["loss"])
        super().log(logs, start_time)


class LossLog(TrainerCallback):
    """Writes ``loss.jsonl``: one line per step; a resumed run takes back the lost steps."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write the steps before the checkpoint that training resumes from."""
        if state.is_world_process_zero:
            self._write(state.log_history, "w")

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write the step just logged."""
        if state.is_world_process_zero:
            self._write(state.log_history[-1:], "a")

    def _write(self, entries: list[dict[str, float]], mode: str) -> None:
        steps = [{"step": entry["step"], **entry} for entry in entries if "loss" in entry]
        with self._path.open(mode) as file:
            file.writelines(json.dumps(step) + "\n" for step in steps)
