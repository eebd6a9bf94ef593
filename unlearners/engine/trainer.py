"""The Hugging Face Trainer with an unlearner's loss."""

from __future__ import annotations

import contextlib
import json
import math
import re
import shutil
from collections.abc import Iterator, Sized
from pathlib import Path
from typing import Any
from typing import cast as typed

import torch
from accelerate import PartialState
from accelerate.utils import DistributedType
from torch import nn
from torch.utils.data import Sampler, SequentialSampler
from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback
from transformers.utils import SAFE_WEIGHTS_NAME

from quantizers.architecture import sees_later_tokens

from .. import losses, weights
from ..data import Batch, Windows
from ..errors import DivergedError, UnlearnerError
from ..files import write_checksums
from ..method import Method, Objective
from ..reference import Reference
from ..training import TrainingSettings
from . import modes
from .dataset import ForgetRetainDataset

PROBE = 16  # tokens of the test for a causal model
OUT_OF_MEMORY = re.compile("out of memory|allocate memory")


def training_arguments(
    settings: TrainingSettings, output_dir: Path, device: torch.device
) -> TrainingArguments:
    """Convert the settings to arguments of the Trainer.

    Args:
        settings: Settings of the run.
        output_dir: Folder for the checkpoints.
        device: Device of the model. A single process trains there; several processes choose their
            own devices.
    """
    arguments = TrainingArguments(
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
        use_cpu=not torch.accelerator.is_available(),
        bf16=settings.mixed_precision == "bf16",
        gradient_checkpointing=settings.gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False},
        save_strategy="no" if settings.save_steps is None else "steps",
        save_steps=settings.save_steps or 1,
        report_to=list(settings.report_to),
        logging_steps=1,
        logging_nan_inf_filter=False,
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=torch.cuda.is_available(),
        ddp_find_unused_parameters=False,
    )
    if PartialState().distributed_type is DistributedType.NO:
        _stay_on(device, arguments)
    return arguments


def _stay_on(device: torch.device, arguments: TrainingArguments) -> None:
    """Train on one device.

    The Trainer would move the model to the first GPU and, with ``nn.DataParallel``, copy it to all
    others, each with its own batch.
    """
    arguments._n_gpu = min(arguments.n_gpu, 1)
    arguments._setup_devices = device
    PartialState().device = device
    if device.type == "cuda":
        torch.cuda.set_device(device)  # checkpoints hold the random state of the current device


class UnlearningTrainer(Trainer):
    """Trainer with the loss and the optimizer of an unlearner.

    The loss of a step is the mean over all its windows, independent of their distribution over
    accumulated batches and processes.

    Args:
        model: Model to train.
        args: Arguments of the Trainer.
        unlearner: Method of the run.
        settings: Settings of the run.
        dataset: Windows of the run.
        callbacks: Callbacks of the Trainer.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        args: TrainingArguments,
        *,
        unlearner: Method,
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
        self._evaluated = modes.untrained_modules(model)
        if settings.disable_dropout:
            self._evaluated += modes.jittered_modules(model)

    def unlearn(self, objective: Objective, reference: Reference, checkpoint: str | None) -> None:
        """Train the model in place.

        Args:
            objective: Object with the ``loss`` to minimise.
            reference: Quantities of theta_ref.
            checkpoint: Folder of the checkpoint to resume from; None to start.
        """
        self._objective, self._reference = objective, reference
        if isinstance(objective, TrainerCallback):
            self.add_callback(objective)
        with self._dropout_off():
            self.train(resume_from_checkpoint=checkpoint)

    def try_window(self, window: torch.Tensor) -> set[nn.Parameter]:
        """Compute the gradient of one window as a trial before long computations.

        Args:
            window: (1, T) int64, on the model's device.

        Returns:
            The parameters with a gradient.

        Raises:
            UnlearnerError: The model cannot be trained on the window, or is not causal.
        """
        model = typed(PreTrainedModel, self.model)
        bf16 = self._settings.mixed_precision == "bf16"
        gpu = [window.device] if window.device.type == "cuda" else []
        model.train()
        self._evaluate_others()
        try:
            # The state of the generators is restored, so that a trial does not change training.
            with self._dropout_off(), torch.random.fork_rng(gpu):
                with modes.evaluation_mode(model):
                    later = sees_later_tokens(
                        lambda ids: model(input_ids=ids).logits, window[:, :PROBE]
                    )
                with torch.autocast(window.device.type, torch.bfloat16, enabled=bf16):
                    logits = model(input_ids=window).logits
                losses.token_nll(logits, window).backward()
        except Exception as error:
            if OUT_OF_MEMORY.search(str(error)):
                raise
            raise UnlearnerError(
                f"this model cannot be trained on windows of {window.shape[1]} tokens of text: "
                f"{' '.join(str(error).split())}"
            ) from error
        if later:
            name = type(modes.base_of(model)).__name__
            raise UnlearnerError(
                f"{name} lets tokens see what follows them: it is no causal language model, so "
                "its likelihood of a text does not measure its knowledge of it"
            )
        reached = {parameter for parameter in model.parameters() if parameter.grad is not None}
        model.zero_grad()
        return reached

    def _evaluate_others(self) -> None:
        """Set evaluation mode in modules that must not be in training mode."""
        for module in self._evaluated:
            module.training = False

    def _dropout_off(self) -> contextlib.AbstractContextManager[None]:
        if not self._settings.disable_dropout:
            return contextlib.nullcontext()
        return modes.dropout_off(typed(nn.Module, self.model))

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Create the unlearner's optimizer; weight decay is for the Trainer's choice of weights."""
        if self.optimizer is None:
            trained = typed(nn.Module, self.model if model is None else model)
            decayed = set(self.get_decay_parameter_names(trained))
            named = [(n, p) for n, p in trained.named_parameters() if p.requires_grad]
            groups = [
                {"params": [p for n, p in named if (n in decayed) is decay], "weight_decay": rate}
                for decay, rate in ((True, self._settings.weight_decay), (False, 0.0))
            ]
            self.optimizer = self._unlearner.create_optimizer(groups, self._settings)
        return self.optimizer

    def get_batch_samples(
        self, epoch_iterator: Iterator, num_batches: int, device: torch.device
    ) -> tuple[list, torch.Tensor | int | None]:
        """Return the batches of one step; record their mean number of windows over processes.

        Args:
            epoch_iterator: Iterator over the batches of the epoch.
            num_batches: Number of batches of the step.
            device: Device of the counts.
        """
        batches, items = super().get_batch_samples(epoch_iterator, num_batches, device)
        mean = sum(batch["count"] for batch in batches) / max(len(batches), 1)
        mean = self.accelerator.reduce(torch.tensor(mean, device=device), "mean")
        self._windows_per_batch = mean.item()
        self._terms = {}
        return batches, items

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """Compute the loss of one batch, weighted by the batch's share of the step."""
        self._evaluate_others()  # the Trainer has just set training mode everywhere
        weight = inputs.pop("count") / self._windows_per_batch
        batch = Batch(**{side: Windows(**fields) for side, fields in inputs.items()})
        terms = self._objective.loss(typed(PreTrainedModel, model), batch, self._reference)
        for name, value in terms.items():
            share = value.detach().float() * weight / self.current_gradient_accumulation_steps
            self._terms[name] = self._terms.get(name, 0) + share
        return terms["loss"] * weight

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the terms of the loss to the log of every step.

        Raises:
            DivergedError: Loss or gradient norm is not finite; raised before a checkpoint is
                written.
        """
        if "loss" in logs:
            names = sorted(self._terms)
            means = self.accelerator.reduce(torch.stack([self._terms[n] for n in names]), "mean")
            logs |= dict(zip(names, means.tolist(), strict=True))
            if not (math.isfinite(logs["loss"]) and math.isfinite(logs.get("grad_norm", 0.0))):
                raise DivergedError(self.state.global_step, logs["loss"])
        super().log(logs, start_time)

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler:
        """Return a sequential sampler, since the dataset shuffles itself."""
        return SequentialSampler(typed(Sized, train_dataset or self.train_dataset))

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        """Write weights under their names in the model.

        Transformers would write experts and multimodal models in another layout, which the Trainer
        cannot load into an existing model.
        """
        if state_dict is not None or hasattr(self.model, "disable_adapter"):
            super()._save(output_dir, state_dict)  # gathered by FSDP; an adapter
        else:
            folder = Path(typed(str, output_dir))
            folder.mkdir(parents=True, exist_ok=True)
            named = typed(nn.Module, self.model).named_parameters()
            weights.save_parameters(named, folder / SAFE_WEIGHTS_NAME)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Restore the dtypes of training after loading: PEFT loads every adapter as float32."""
        trained = typed(nn.Module, self.model)
        dtypes = weights.dtypes(trained)
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        weights.cast(trained, dtypes)

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        """Refuse an incomplete checkpoint, for which the Trainer only warns.

        Raises:
            UnlearnerError: A weight is missing or unexpected.
        """
        names = {name for name, _ in typed(nn.Module, self.model).named_parameters()}
        lost = sorted(names & {*load_result.missing_keys}) + load_result.unexpected_keys
        if lost:
            raise UnlearnerError(
                f"the checkpoint in {self.args.output_dir} does not fit the model (first of "
                f"{len(lost)}: {lost[0]}); delete it to start again"
            )


class LossLog(TrainerCallback):
    """Log of the losses in ``loss.jsonl``, one line per step, without repeated steps."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write the steps before the checkpoint that training resumes from."""
        self._write(state, state.log_history, "w")

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write the step just logged."""
        self._write(state, state.log_history[-1:], "a")

    def _write(self, state: Any, entries: list[dict[str, float]], mode: str) -> None:
        if not state.is_world_process_zero:
            return
        with self._path.open(mode, encoding="utf-8") as file:
            for entry in entries:
                if "loss" in entry:  # not in the entry at the end of training
                    first = {key: entry[key] for key in ("step", "epoch", "loss")}
                    file.write(json.dumps(first | dict(sorted(entry.items()))) + "\n")


class NoLastCheckpoint(TrainerCallback):
    """Suppression of the checkpoint at the last step, since the model is returned."""

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Override the decision of the Trainer's own callback."""
        if state.global_step >= state.max_steps:
            control.should_save = False


class OneWholeCheckpoint(TrainerCallback):
    """Checksums for every new checkpoint, and removal of all older ones.

    The Trainer's own ``save_total_limit`` keeps the latest modification time, which is wrong after
    the clock was set back.
    """

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Wait for the files of other processes, write the checksums, remove other checkpoints."""
        processes = PartialState()
        processes.wait_for_everyone()
        if processes.is_main_process:
            folder = Path(args.output_dir, f"checkpoint-{state.global_step}")
            write_checksums(folder)
            for other in folder.parent.glob("checkpoint-*"):
                if other != folder:
                    shutil.rmtree(other, ignore_errors=True)
