"""One step on one model, for the runner and for ``unlearn`` and ``evaluate`` alone."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Mapping
from functools import reduce
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness_tasks.cache import build_once
from harness_tasks.calibration import with_calibration
from harness_tasks.corpora import load_corpus
from harness_tasks.loading import refuse_rounded
from quantizers import CalibratedQuantizer, Quantizer, get_quantizer
from quantizers.loading import one_line
from quantizers.saving import save_quantized
from unlearners import UnlearnerError, UnlearningData
from unlearners.facts import TrainingFacts, read_training_facts
from unlearners.kept import KEPT, keep_weights

from .callbacks import TrainingProgress
from .config import CorpusEntry, Evaluation, ModelSource, PrecisionEntry, RunConfig, UnlearnEntry
from .errors import InputError, is_disk_full
from .evaluation import Scores
from .evaluation import evaluate as evaluate_in_memory
from .model_card import unlearned_card
from .models import copy_processor, load_model, save_model, try_saving
from .plan import PlannedTraining, Recipe, make_plan
from .processes import join_processes
from .progress import Progress
from .records.schema import UNQUANTIZED
from .records.survival import SurvivalReport
from .report.loss import plot_losses
from .survival import SurvivalMeter

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def load_source(
    planned: PlannedTraining, role: str, settings: Evaluation
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load the ``target`` or ``retrain`` model of a planned training's corpus.

    Raises:
        InputError: there is none, it cannot be loaded, or it lacks the chat template asked for.
    """
    source = planned.corpus.model(role)
    if source is None:
        raise InputError(f"corpora: '{planned.corpus.entry.name}' has no {role} model")
    model, tokenizer = load_model(
        source.path,
        revision=source.revision,
        tokenizer=source.tokenizer,
        tokenizer_revision=source.tokenizer_revision,
        dtype=planned.corpus.dtype(role, settings.dtype),
        device=settings.device,
    )
    if settings.chat_template and tokenizer.chat_template is None:
        raise InputError(
            f"evaluation.chat_template: the tokenizer of {source.tokenizer or source.path} has no "
            "chat template; set it to false, or name another tokenizer"
        )
    return model, tokenizer


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
    """Make a checkpoint by its recipe and save it; the model given is consumed.

    Args:
        recipe: method, finetuning and settings.
        model: the model before unlearning.
        tokenizer: its tokenizer.
        data: text to forget and to retain.
        folder: where the checkpoint is saved, by the main process.
        output_dir: where training keeps its files, the loss curve among them.
        progress: told what is going on.
        reference_cache: folder of the reference's numbers, shared by trainings.

    Returns:
        the unlearned model.

    Raises:
        InputError: the model cannot be saved, found before training.
        UnlearnerError: the model is quantized, or could not be saved after training; its weights
            are kept then, and the same call goes on from them.
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
    """Say in how many of a model's parameters a training could change something."""
    reached = facts.adapted_parameters or facts.trained_parameters
    share = 100 * reached / facts.parameters
    return f"training reached {share:.1f}% of the parameters ({reached:,} of {facts.parameters:,})"


def _save_or_keep(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path, output_dir: Path
) -> None:
    """Save the unlearned model, or keep its weights.

    Raises:
        UnlearnerError: it could not be saved.
    """
    try:
        save_model(model, tokenizer, folder)
    except Exception as error:
        if is_disk_full(error):
            raise
        kept = keep_weights(model, output_dir)
        raise UnlearnerError(
            f"the unlearned model could not be saved to {folder}: {one_line(error)}. Its weights "
            f"are kept in {kept}, and the same command goes on from there"
        ) from error
    (output_dir / KEPT).unlink(missing_ok=True)


def drop_trainer_checkpoints(folder: Path) -> None:
    """Free the space of checkpoints that were only there to resume."""
    for leftover in folder.glob("checkpoint-*"):
        shutil.rmtree(leftover, ignore_errors=True)


def unlearn_to_folder(
    entry: UnlearnEntry,
    model: ModelSource,
    corpus: CorpusEntry,
    folder: Path,
    progress: Progress,
) -> None:
    """Unlearn and save; an interrupted run of the same settings goes on where it stopped.

    The Trainer's files stand in ``<folder>.training`` until the model is saved; the loss curve
    and an adapter stay, in ``<folder>/training``. ``README.md`` is the model card. Under
    ``accelerate launch`` all processes train and the main one saves.

    Raises:
        InputError: ``folder`` is not empty.
    """
    refuse_full(folder)
    config = RunConfig(
        name="unlearn",
        corpora=[corpus.model_copy(update={"target": model})],
        unlearn=[entry],
        precisions=[PrecisionEntry(quantizer=UNQUANTIZED)],
    )
    planned = make_plan(config)[-1]
    if planned.recipe is None:
        raise InputError(f"{entry.method} is not an unlearning method")
    progress.stage(f"{planned.title}: training")
    target, tokenizer = load_source(planned, "target", config.evaluation)
    card = unlearned_card(planned.training, version("lm-eval-muse"))
    data = planned.corpus.data(corpus.forget)
    train_to_folder(planned.recipe, target, tokenizer, data, folder, card, progress)


def train_to_folder(
    recipe: Recipe,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    data: UnlearningData,
    folder: Path,
    card: str,
    progress: Progress,
) -> None:
    """Train by a recipe and save, with the model card; see ``unlearn_to_folder``."""
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


def quantize_to_folder(
    path: str,
    revision: str | None,
    quantizer: str,
    params: dict[str, Any],
    folder: Path,
    corpus: CorpusEntry | None = None,
) -> None:
    """Quantize and save with the quantizer's configuration, ``quantizer.json``.

    Args:
        path: folder or hub id of the model.
        revision: commit on the hub.
        quantizer: its name.
        params: its parameters.
        folder: where to.
        corpus: for a calibrated quantizer, whose retain set it sees.

    Raises:
        InputError: ``folder`` is not empty, a corpus is needed and missing, or the model cannot be
            loaded or saved.
    """
    from quantizers.architecture import is_multimodal

    refuse_full(folder)
    transform = get_quantizer(quantizer, **params)
    if isinstance(transform, CalibratedQuantizer) and corpus is None:
        raise InputError(f"{quantizer} is calibrated on text: name a corpus with --corpus")
    model, tokenizer = load_model(path, revision=revision)
    try_saving(model, tokenizer, folder)
    if corpus is not None:
        found = load_corpus(corpus.name, corpus.data_dir)
        transform = with_calibration(transform, tokenizer, found, corpus.forget, corpus.retain)
    quantized = transform(model)

    def write(temporary: Path) -> None:
        save_quantized(quantized, temporary, transform)
        tokenizer.save_pretrained(temporary)
        if is_multimodal(quantized):
            copy_processor(quantized, temporary)

    build_once(folder, write)


def evaluate_model(
    path: str,
    revision: str | None,
    quantizer: str,
    corpus: CorpusEntry,
    settings: Evaluation,
    progress: Progress,
) -> Scores:
    """Load, quantize and score a model."""
    transform = get_quantizer(quantizer)
    found = load_corpus(corpus.name, corpus.data_dir)
    model, tokenizer = load_model(
        path, revision=revision, dtype=settings.dtype, device=settings.device
    )
    transform = with_calibration(transform, tokenizer, found, corpus.forget, corpus.retain)
    return evaluate_in_memory(transform(model), tokenizer, corpus, settings, progress=progress)


def compare_update(
    target: ModelSource,
    unlearned: Path,
    quantizers: Mapping[str, Quantizer],
    device: str | None = None,
) -> SurvivalReport:
    """Compare an unlearned model with its target, loaded in the same dtype.

    Args:
        target: the model before unlearning.
        unlearned: folder of the unlearned model, adapters merged, not quantized.
        quantizers: by the name of their precision in the report.
        device: torch device that computes.

    Raises:
        InputError: a model cannot be loaded.
        QuantizerError: the two cannot be compared.
    """
    after, _ = load_model(str(unlearned), device=device)
    before, _ = load_model(target.path, revision=target.revision, dtype=after.dtype, device="cpu")
    meter = SurvivalMeter(before, after, unlearned.resolve().name)
    reports = [
        meter.measure(name, quantizer, quantizer(copy.deepcopy(after)))
        for name, quantizer in quantizers.items()
    ]
    return reduce(SurvivalReport.merge, reports)


def refuse_full(folder: Path) -> None:
    """A folder that holds something is not ours to fill; an empty one makes room."""
    try:
        folder.rmdir()
    except FileNotFoundError:
        pass  # not there, or another process has just removed it
    except OSError as error:
        raise InputError(f"{folder} is not empty: choose another --out") from error
