"""Training of one checkpoint, saved as a model folder."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from harness_tasks.loading import refuse_rounded
from quantizers.loading import one_line
from unlearners import UnlearnerError, UnlearningData
from unlearners.engine.kept_weights import KEPT, keep_weights
from unlearners.facts import TrainingFacts, read_training_facts

from ..errors import is_disk_full
from ..models.folders import (
    save_model,
    try_saving,
)
from ..processes import join_processes
from ..progress import Progress
from .callbacks import TrainingProgress
from .loss_plot import plot_losses
from .recipe import Recipe

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def unlearn(
    recipe: Recipe,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    data: UnlearningData,
    *,
    folder: Path,
    output_dir: Path,
    progress: Progress,
    reference_cache: Path | None = None,
) -> PreTrainedModel:
    """Unlearn by a recipe and save the result; the given model is consumed.

    Args:
        recipe: Method, finetuning and settings.
        model: The model before unlearning.
        tokenizer: Its tokenizer.
        data: Text to forget and to retain.
        folder: Folder of the unlearned model, written by the main process.
        output_dir: Folder of the training's files, with the loss curve.
        progress: Progress bars.
        reference_cache: Folder of the reference's numbers, shared by trainings.

    Returns:
        The unlearned model.

    Raises:
        InputError: The model could not be saved after training; raised before it.
        UnlearnerError: The model is quantized, or saving failed after training; its weights are
            kept then, and the same call continues from them.
    """
    refuse_rounded(model.name_or_path)
    is_main = join_processes().is_main_process
    if is_main:
        try_saving(model, tokenizer, folder)
    unlearned = recipe.unlearner(
        model,
        tokenizer,
        data,
        finetuning=recipe.finetuning,
        training=recipe.settings,
        output_dir=output_dir,
        reference_cache=reference_cache,
        callbacks=[TrainingProgress(progress)],
    )
    if is_main:
        plot_losses(output_dir / "loss.jsonl", output_dir / "loss.png")
        _save_or_keep(unlearned, tokenizer, folder, output_dir)
    return unlearned


def _reach(facts: TrainingFacts) -> str:
    """Describe the share of a model's parameters that a training could change."""
    reached = facts.adapted_parameters or facts.trained_parameters
    share = 100 * reached / facts.parameters
    return f"training reached {share:.1f}% of the parameters ({reached:,} of {facts.parameters:,})"


def _save_or_keep(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path, output_dir: Path
) -> None:
    """Save the unlearned model, or keep its weights.

    Raises:
        UnlearnerError: The model could not be saved.
    """
    try:
        save_model(model, tokenizer, folder)
    except Exception as error:
        if is_disk_full(error):
            raise
        kept = keep_weights(model, output_dir)
        raise UnlearnerError(
            f"the unlearned model could not be saved to {folder}: {one_line(error)}. Its weights "
            f"are kept in {kept}; the same command continues from there"
        ) from error
    (output_dir / KEPT).unlink(missing_ok=True)


def drop_trainer_checkpoints(folder: Path) -> None:
    """Remove the Trainer's checkpoints, which only served to resume."""
    for leftover in folder.glob("checkpoint-*"):
        shutil.rmtree(leftover, ignore_errors=True)


def train_to_folder(
    recipe: Recipe,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    data: UnlearningData,
    folder: Path,
    card: str,
    progress: Progress,
) -> None:
    """Train by a recipe; save the model, its model card and, in ``training/``, the loss curve.

    The Trainer's files are in ``<folder>.training`` until the model is saved. Under
    ``accelerate launch`` all processes train and the main one saves.

    Args:
        recipe: Method, finetuning and settings.
        model: The model before training; consumed.
        tokenizer: Its tokenizer.
        data: Text to train on.
        folder: Folder of the trained model.
        card: Text of the model card.
        progress: Progress bars.
    """
    processes = join_processes()
    work = folder.with_name(folder.name + ".training")
    unlearn(recipe, model, tokenizer, data, folder=folder, output_dir=work, progress=progress)
    if processes.is_main_process:
        if facts := read_training_facts(work):
            progress.say(_reach(facts))
        drop_trainer_checkpoints(work)
        work.rename(folder / "training")
        (folder / "README.md").write_text(card, encoding="utf-8")
    processes.wait_for_everyone()
