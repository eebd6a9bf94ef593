"""One unlearning run: from target model and text to the unlearned model."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import math
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from typing import cast as typed

import torch
from accelerate import PartialState
from torch import nn
from transformers import PreTrainedModel, TrainerCallback, TrainerState, set_seed
from transformers.utils import logging as transformers_logging

from quantizers.architecture import context_length

from .. import weights
from ..data import UnlearningData, Windows
from ..errors import DivergedError, UnlearnerError
from ..facts import TrainingFacts, write_training_facts
from ..files import damaged_file, write_json
from ..finetuning.adapter import changed_parameters
from ..method import Method, check_needs
from ..onednn import onednn_linears
from . import sharding
from .dataset import ForgetRetainDataset
from .kept_weights import load_kept
from .reference import ReferenceBuilder, model_digest
from .trainer import (
    OUT_OF_MEMORY,
    LossLog,
    NoLastCheckpoint,
    OneWholeCheckpoint,
    UnlearningTrainer,
    training_arguments,
)

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from ..finetuning import Finetuning
    from ..training import TrainingSettings

logger = logging.getLogger(__name__)


def run(
    unlearner: Method,
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
    """Run a method; ``Unlearner.__call__`` describes the arguments, the result and the errors.

    Args:
        unlearner: Method to run.
        model: Target model, trained in place.
        tokenizer: Tokenizer of the model.
        data: Forget and retain text.
        finetuning: Weights to train.
        training: Settings of the training loop.
        output_dir: Folder of the run.
        reference_cache: Folder of numbers of the target model; None for ``output_dir``.
        callbacks: Additional callbacks of the Trainer.
    """
    check_needs(unlearner)
    # creating these joins the processes, if there are several
    arguments = training_arguments(training, output_dir, model.device)
    processes = PartialState()
    global_batch_size = training.batch_size * processes.num_processes
    dataset = ForgetRetainDataset.from_text(
        tokenizer,
        data,
        window=training.window,
        needs_retain="retain" in unlearner.needs,
        seed=training.seed,
        global_batch_size=global_batch_size,
    )
    _check_fit(model, dataset, training)
    digest = model_digest(model)
    fingerprint = _fingerprint(
        unlearner, finetuning, training, dataset, digest, processes.num_processes
    )
    with processes.main_process_first():
        _claim(output_dir, fingerprint)
    if load_kept(model, output_dir):
        return model.eval()

    originals = output_dir / "originals.safetensors" if unlearner.edits_weights else None
    cache = reference_cache or output_dir / "reference"
    dtypes = weights.dtypes(model)
    trainable = {name for name, p in model.named_parameters() if p.requires_grad}
    parameters = model.num_parameters()
    with _settings_restored(model), _out_of_memory_advice(training):
        set_seed(training.seed)
        with processes.main_process_first():
            trained = finetuning.prepare(model, getattr(torch, training.weights_dtype), originals)
        trainer = UnlearningTrainer(
            trained,
            arguments,
            unlearner=unlearner,
            settings=training,
            dataset=dataset,
            callbacks=[
                LossLog(output_dir / "loss.jsonl"),
                NoLastCheckpoint(),
                OneWholeCheckpoint(),
                *callbacks,
            ],
        )
        sharding.refuse_unfit(trainer.accelerator, unlearner, training)
        sharded = sharding.is_sharded(trainer.accelerator)
        if sharded:  # the Trainer does not move the model
            nn.Module.to(trained, trainer.accelerator.device)
        with contextlib.nullcontext() if sharded else onednn_linears(trained):
            reached = set(trained.parameters())
            if not sharded:  # one device may lack memory for the gradient
                sides = [side for side in (dataset.forget, dataset.retain) if side is not None]
                longest = max(sides, key=lambda side: side.shape[1])
                reached = trainer.try_window(longest[:1].to(trained.device))
            reference = ReferenceBuilder(
                trained,
                autocast=training.mixed_precision == "bf16",
                batch_size=training.batch_size,
                cache=cache,
                model_digest=digest,
            ).build(dataset, unlearner.needs)
            index = torch.arange(len(dataset.forget), device=trained.device)
            forget = Windows(dataset.forget.to(trained.device), index, "forget")
            objective = unlearner.begin(trained, forget)
            trained_parameters = trained.num_parameters(only_trainable=True)
            adapted_parameters = changed_parameters(trained, reached)
            logger.info(
                "training changes weights of %d of %d parameters (%.1f%%)",
                *(adapted_parameters, parameters, 100 * adapted_parameters / parameters),
            )
            empty = sharding.empty_copy(trained) if sharded else None
            trainer.unlearn(objective, reference, _last_checkpoint(output_dir))
        if empty is not None:
            trained = sharding.whole(empty, trained)
        if processes.is_main_process:
            finetuning.save_adapter(trained, output_dir / "adapter")
        unlearned = finetuning.finish(trained, dtypes, originals, unlearner.edit)
        for name, parameter in unlearned.named_parameters():
            parameter.requires_grad_(name in trainable)
    _require_finite(unlearned, trainer.state)

    processes.wait_for_everyone()
    if processes.is_main_process:
        facts = TrainingFacts(
            device=_device_name(arguments.device),
            processes=processes.num_processes,
            batch_size=training.batch_size,
            gradient_accumulation_steps=training.gradient_accumulation_steps,
            effective_batch_size=global_batch_size * training.gradient_accumulation_steps,
            steps=trainer.state.global_step,
            parameters=parameters,
            trained_parameters=trained_parameters,
            adapted_parameters=adapted_parameters,
            changed_weights=model_digest(unlearned) != digest,
        )
        write_training_facts(output_dir, facts)
        if originals is not None:
            originals.unlink(missing_ok=True)
        if reference_cache is None:
            shutil.rmtree(cache, ignore_errors=True)
    return unlearned.eval()


def _check_fit(
    model: PreTrainedModel, dataset: ForgetRetainDataset, training: TrainingSettings
) -> None:
    """Refuse a model that cannot be trained on these windows.

    Raises:
        UnlearnerError: The model is quantized, its context or vocabulary is too small, or it does
            not support the settings.
    """
    if _is_quantized(model):
        raise UnlearnerError(
            "the model is quantized: unlearn first, then quantize; give the model that it was "
            "quantized from"
        )
    if training.gradient_checkpointing and not model.supports_gradient_checkpointing:
        raise UnlearnerError(
            f"training setting gradient_checkpointing=True: {type(model).__name__} does not "
            "support it; lower batch_size instead"
        )
    sides = [side for side in (dataset.forget, dataset.retain) if side is not None]
    length = max(side.shape[1] for side in sides)
    context = context_length(model)
    if context is not None and length > context:
        raise UnlearnerError(
            f"training setting window={length} is longer than the model's context of {context} "
            "tokens; lower window"
        )
    largest = max(int(side.max()) for side in sides)
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    rows = min(len(typed(nn.Embedding, end).weight) for end in ends if end is not None)
    if largest >= rows:
        raise UnlearnerError(
            f"the tokenizer gives token id {largest} but the model embeds {rows} tokens; "
            "use the model's own tokenizer"
        )


_ABSENT = object()


def _is_quantized(model: PreTrainedModel) -> bool:
    """Return True if weights are bytes or tensors of a quantization library."""
    return getattr(model, "is_quantized", False) or any(
        type(tensor).dequantize is not torch.Tensor.dequantize
        or (tensor.dtype.itemsize == 1 and tensor.dtype != torch.bool)
        for tensor in (*model.parameters(), *model.buffers())
    )


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _fingerprint(
    unlearner: Method,
    finetuning: Finetuning,
    training: TrainingSettings,
    dataset: ForgetRetainDataset,
    digest: str,
    processes: int,
) -> dict[str, dict[str, Any]]:
    windows = hashlib.sha256(dataset.forget.numpy().tobytes())
    if dataset.retain is not None:
        windows.update(dataset.retain.numpy().tobytes())
    cls = type(unlearner)
    return {
        "unlearner": {"class": f"{cls.__module__}.{cls.__qualname__}"} | unlearner.to_dict(),
        "finetuning": {"name": finetuning.name} | finetuning.to_dict(),
        "training": training.to_dict(),
        "launch": {"processes": processes},  # they share out the windows of a step
        "sha256": {"model": digest, "windows": windows.hexdigest()},
    }


def _claim(output_dir: Path, fingerprint: dict[str, dict[str, Any]]) -> None:
    """Write ``run.json`` to a new folder, or compare it with an existing one.

    Raises:
        UnlearnerError: The folder belongs to another run.
    """
    output_dir.mkdir(parents=True, exist_ok=True)
    record = output_dir / "run.json"
    if record.exists():
        recorded = json.loads(record.read_text(encoding="utf-8"))
        for part, settings in fingerprint.items():
            for name, value in settings.items():
                recorded_value = recorded.get(part, {}).get(name)
                if recorded_value != value:
                    raise UnlearnerError(
                        f"output_dir {output_dir} holds another run: its {part} {name} is "
                        f"{recorded_value!r}, not {value!r}; choose another folder"
                    )
        return
    if _last_checkpoint(output_dir) is not None:
        raise UnlearnerError(
            f"output_dir {output_dir} holds checkpoints but no run.json; choose another folder"
        )
    write_json(record, fingerprint)


def _last_checkpoint(output_dir: Path) -> str | None:
    """Return the newest checkpoint that is complete and intact; None if there is none.

    The state of the Trainer is its last file, except for the checksums.
    """
    states = sorted(
        output_dir.glob("checkpoint-*/trainer_state.json"),
        key=lambda path: int(path.parent.name.split("-")[1]),
    )
    for state in reversed(states):
        with contextlib.suppress(json.JSONDecodeError):
            json.loads(state.read_text(encoding="utf-8"))
            if damaged_file(state.parent) is None:
                return str(state.parent)
    return None


@contextlib.contextmanager
def _settings_restored(model: PreTrainedModel) -> Iterator[None]:
    """Undo all changes of training except for the weights; hide progress bars of checkpoints.

    Within this context the model does not use a cache of keys and values.
    """
    text_config = model.config.get_text_config(decoder=True)
    settings = [
        (config, name, getattr(config, name, _ABSENT))
        for config in (model.config, text_config)
        for name in ("use_cache", "dtype")
    ]
    if hasattr(text_config, "use_cache"):
        text_config.use_cache = False
    forward = model.__dict__.get("forward")  # accelerate wraps it for mixed precision
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if bars:
            transformers_logging.enable_progress_bar()
        for config, name, value in settings:
            if value is not _ABSENT:
                setattr(config, name, value)
            elif hasattr(config, name):
                delattr(config, name)
        for name in ("forward", "_original_forward"):
            model.__dict__.pop(name, None)
        if forward is not None:
            model.forward = forward
        for parameter in model.parameters():
            parameter.grad = None
        model.gradient_checkpointing_disable()
        model.disable_input_require_grads()


@contextlib.contextmanager
def _out_of_memory_advice(training: TrainingSettings) -> Iterator[None]:
    """Replace an allocator's error by advice on settings.

    Raises:
        UnlearnerError: Memory ran out.
    """
    try:
        yield
    except RuntimeError as error:
        if not OUT_OF_MEMORY.search(str(error)):
            raise
        raise UnlearnerError(
            f"out of memory: lower batch_size ({training.batch_size}) and raise "
            f"gradient_accumulation_steps ({training.gradient_accumulation_steps}) instead, lower "
            f"window ({training.window}), set gradient_checkpointing, or use LoRA"
        ) from error


def _require_finite(model: PreTrainedModel, state: TrainerState) -> None:
    """Check the weights, since no loss is computed after the last update.

    Raises:
        DivergedError: A weight is not finite.
    """
    losses = [entry["loss"] for entry in state.log_history if "loss" in entry]
    if not all(parameter.isfinite().all() for parameter in model.parameters()):
        raise DivergedError(state.global_step, losses[-1] if losses else math.nan)
