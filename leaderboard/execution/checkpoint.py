"""Checkpoint of a training in a run folder: found or made, checked, saved, pruned."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness_tasks.transforms import merge_adapter
from unlearners.facts import TrainingFacts, read_training_facts
from unlearners.files import write_checksums

from ..config import Evaluation, RunConfig
from ..errors import InputError
from ..grid.plan import PlannedTraining
from ..models.folders import load_model, refuse_damaged, save_model
from ..progress import Progress
from ..records.store import RunFolder
from ..training.train import drop_trainer_checkpoints, unlearn

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class LoadedCheckpoint:
    """Model in memory, before quantization.

    Attributes:
        model: With adapters merged.
        tokenizer: The model's tokenizer.
        seconds: Duration of its training; None if it was loaded.
        training: Facts about its training; None for a reference model, and where none are kept.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    seconds: float | None = None
    training: TrainingFacts | None = None


class Checkpoint:
    """Checkpoint of a planned training: a model folder, an adapter, or a model to be trained.

    Args:
        planned: The training; without a recipe its checkpoint is a reference model.
        config: Configuration of the run.
        folder: Folder of the run.
        progress: Progress bars.
    """

    def __init__(
        self, planned: PlannedTraining, config: RunConfig, folder: RunFolder, progress: Progress
    ) -> None:
        self.planned, self.config, self.run_folder, self.progress = (
            planned,
            config,
            folder,
            progress,
        )
        self._path = folder.checkpoint_path(planned.training)
        self._saved, self._adapter = self._path / "model", self._path / "adapter"
        self._training = self._path / "training"

    def load(self) -> LoadedCheckpoint:
        """Load the checkpoint, or what was kept of it, or train and save it.

        Raises:
            InputError: A file is not as it was saved, or a model cannot be loaded or saved.
            UnlearnerError: The training cannot work.
            DivergedError: The training reached numbers that are not finite.
        """
        planned, seconds = self.planned, None
        if planned.recipe is None:
            self.progress.stage(f"{planned.title}: loading")
            return LoadedCheckpoint(
                *load_source(planned, planned.training.method, self.config.evaluation)
            )
        if self._saved.is_dir():
            model, tokenizer = self._load_saved()
        elif self._adapter.is_dir():
            model, tokenizer = self._merge_kept_adapter()
        else:
            start = time.monotonic()
            model, tokenizer = self._train()
            seconds = time.monotonic() - start
        drop_trainer_checkpoints(self._training)
        return LoadedCheckpoint(model, tokenizer, seconds, read_training_facts(self._training))

    def prune(self) -> None:
        """Remove what ``keep`` of the configuration does not keep; all cells are recorded."""
        if self.config.keep == "all" or self.planned.recipe is None:
            return
        made = self._training / "adapter"
        if self.config.keep == "adapters" and made.is_dir() and self._adapter_is_enough():
            write_checksums(made)
            made.rename(self._adapter)
        shutil.rmtree(made, ignore_errors=True)
        _remove(self._saved)

    def _load_saved(self) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        self.progress.stage(f"{self.planned.title}: loading")
        refuse_damaged(self._saved)
        return load_model(
            str(self._saved),
            dtype=self.planned.training.dtype or "auto",
            device=self.config.evaluation.device,
        )

    def _merge_kept_adapter(self) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        model, tokenizer = self._load_start()
        refuse_damaged(self._adapter)
        model = merge_adapter(model, str(self._adapter))
        save_model(model, tokenizer, self._saved)
        return model, tokenizer

    def _train(self) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        planned = self.planned
        if planned.recipe is None:
            raise InputError(f"{planned.title} is not trained here")
        model, tokenizer = self._load_start()
        self.progress.stage(f"{planned.title}: training")
        model = unlearn(
            planned.recipe,
            model,
            tokenizer,
            planned.corpus.data(planned.training.corpus.forget),
            folder=self._saved,
            output_dir=self._training,
            reference_cache=self.run_folder.path / "references",
            progress=self.progress,
        )
        return model, tokenizer

    def _load_start(self) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        """Load the weights that the training starts from: the target's or an earlier stage's."""
        if self.planned.parent is None:
            return load_source(self.planned, "target", self.config.evaluation)
        parent = Checkpoint(self.planned.parent, self.config, self.run_folder, self.progress)
        before = parent.load()
        return before.model, before.tokenizer

    def _adapter_is_enough(self) -> bool:
        """True if target and adapter give the model, with nothing edited after the merge."""
        recipe = self.planned.recipe
        return (
            recipe is not None
            and not recipe.unlearner.edits_weights
            and self.planned.parent is None
        )


def _remove(folder: Path) -> None:
    """Remove a folder; a killed process leaves nothing of it that looks whole."""
    if folder.is_dir():
        hidden = folder.with_name(f".{folder.name}")
        shutil.rmtree(hidden, ignore_errors=True)
        folder.rename(hidden)
        shutil.rmtree(hidden, ignore_errors=True)


def load_source(
    planned: PlannedTraining, role: str, settings: Evaluation
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load the ``target`` or ``retrain`` model of a planned training's corpus.

    Args:
        planned: The training.
        role: ``target`` or ``retrain``.
        settings: Device, dtype and chat template.

    Raises:
        InputError: There is none, it cannot be loaded, or it lacks the chat template asked for.
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
