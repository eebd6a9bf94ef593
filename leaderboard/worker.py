"""The work of a grid: makes checkpoints, quantizes and evaluates them, and hands back results."""

from __future__ import annotations

import copy
import gc
import logging
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness_tasks.calibration import calibration_facts, with_calibration
from harness_tasks.corpora import CorpusError
from harness_tasks.token_logprobs import RequestError
from harness_tasks.transforms import merge_adapter
from unlearners import Unlearner
from unlearners.checksums import write_checksums

from .cell import Record, Seconds
from .config import RunConfig
from .errors import InputError, is_disk_full
from .evaluation import evaluate
from .models import load_model, refuse_damaged, save_model
from .plan import PlannedCell, PlannedTraining
from .progress import Progress
from .provenance import provenance
from .samples import Sample
from .steps import drop_trainer_checkpoints, load_source, unlearn
from .store import RunFolder
from .survival import measure_once

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

# These end a run: they are about what all of it reads. Everything else is one cell's failure.
CONFIGURATION_ERRORS = (InputError, CorpusError, RequestError)


@dataclass(frozen=True)
class Result:
    """What came out of one cell.

    Attributes:
        record: its numbers, or why there are none.
        answers: what the model answered, where that is to be logged.
    """

    record: Record
    answers: Sequence[Sample] = field(default=())


@dataclass(frozen=True)
class Checkpoint:
    """A model in memory, before quantization.

    Attributes:
        seconds: how long it took to train; None where it was loaded.
        survival: what of its update survives rounding; None for a reference model.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    seconds: float | None
    survival: dict[str, Any] | None = None


class Worker:
    """Works through trainings and their cells; every failure is a result too.

    Args:
        config: for how models are loaded and evaluated, and what is kept of them.
        folder: where checkpoints and reference outputs are.
        progress: told what is going on.
    """

    def __init__(self, config: RunConfig, folder: RunFolder, progress: Progress) -> None:
        self.config, self.folder, self.progress = config, folder, progress
        gc.freeze()  # what is imported stays: collecting after a cell need not walk through it

    def run(self, planned: PlannedTraining, cells: Sequence[PlannedCell]) -> Iterator[Result]:
        """Make or load the checkpoint and evaluate it in these cells, one result each.

        Raises:
            InputError, CorpusError, RequestError: what all cells read is wrong.
            Exception: nothing more can be written (``errors.is_disk_full``).
        """
        try:
            checkpoint = self._checkpoint(planned)
        except CONFIGURATION_ERRORS:
            raise
        except Exception as error:
            for cell in cells:
                yield self.failure(cell, error)
            return
        for cell in cells:
            self.progress.stage(f"{planned.title}: {cell.cell.precision}")
            try:
                yield self._evaluate(planned, cell, checkpoint)
            except CONFIGURATION_ERRORS:
                raise
            except Exception as error:
                yield self.failure(cell, error)

    def failure(self, cell: PlannedCell, error: Exception) -> Result:
        """Why a cell has no numbers; the next run does not try it again by itself.

        Raises:
            Exception: ``error`` itself where it is about the device and not the cell.
        """
        from unlearners.base import DivergedError

        if is_disk_full(error):
            raise error
        logger.debug("cell failed", exc_info=error)
        return Result(
            Record(
                cell=cell.cell,
                status="diverged" if isinstance(error, DivergedError) else "failed",
                reason=f"{type(error).__name__}: {error}",
                provenance=provenance(self.config.evaluation.device or "cpu"),
            )
        )

    def prune(self, planned: PlannedTraining) -> None:
        """Drop what ``keep`` does not keep of a checkpoint whose cells are all recorded."""
        if self.config.keep == "all" or planned.recipe is None:
            return
        folder = self.folder.checkpoint_path(planned.training)
        made = folder / "training" / "adapter"
        if self.config.keep == "adapters" and made.is_dir() and _is_enough(planned):
            write_checksums(made)
            made.rename(folder / "adapter")
        shutil.rmtree(made, ignore_errors=True)
        _remove(folder / "model")

    def _checkpoint(self, planned: PlannedTraining) -> Checkpoint:
        """Load the checkpoint, or what was kept of it, from the run folder, or make it."""
        settings = self.config.evaluation
        if planned.recipe is None:
            self.progress.stage(f"{planned.title}: loading")
            return Checkpoint(*load_source(planned, planned.training.method, settings), None)
        folder = self.folder.checkpoint_path(planned.training)
        saved, adapter = folder / "model", folder / "adapter"
        if saved.is_dir():
            self.progress.stage(f"{planned.title}: loading")
            refuse_damaged(saved)
            drop_trainer_checkpoints(folder / "training")
            loaded = load_model(str(saved), dtype=settings.dtype, device=settings.device)
            return Checkpoint(*loaded, None, self._survival(planned, folder))
        model, tokenizer = self._start(planned)
        if adapter.is_dir():
            refuse_damaged(adapter)
            model, seconds = merge_adapter(model, str(adapter)), None
        else:
            self.progress.stage(f"{planned.title}: training")
            start = time.monotonic()
            model = unlearn(
                planned.recipe,
                model,
                tokenizer,
                planned.corpus.data(planned.training.corpus.forget),
                output_dir=folder / "training",
                reference_cache=self.folder.path / "references",
                progress=self.progress,
            )
            seconds = time.monotonic() - start
        save_model(model, tokenizer, saved)
        drop_trainer_checkpoints(folder / "training")
        return Checkpoint(model, tokenizer, seconds, self._survival(planned, folder))

    def _start(self, planned: PlannedTraining) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        """The weights that a training starts from."""
        if planned.parent is None:
            return load_source(planned, "target", self.config.evaluation)
        before = self._checkpoint(planned.parent)
        return before.model, before.tokenizer

    def _survival(self, planned: PlannedTraining, folder: Path) -> dict[str, Any] | None:
        target = planned.corpus.model("target")
        if target is None:
            return None
        precisions = {cell.cell.precision: cell.quantizer for cell in planned.cells}
        return measure_once(folder / "survival.json", target, folder / "model", precisions)

    def _evaluate(
        self, planned: PlannedTraining, cell: PlannedCell, checkpoint: Checkpoint
    ) -> Result:
        start = time.monotonic()
        quantizer = with_calibration(
            cell.quantizer,
            checkpoint.tokenizer,
            planned.corpus.corpus,
            planned.corpus.entry.forget,
            planned.corpus.entry.retain,
        )
        model = quantizer(copy.deepcopy(checkpoint.model))
        quantized = time.monotonic()
        scores = evaluate(
            model,
            checkpoint.tokenizer,
            planned.corpus.entry,
            self.config.evaluation,
            planned.training.fold,
            self.progress,
        )
        seconds = Seconds(
            training=checkpoint.seconds,
            quantizing=quantized - start,
            evaluating=time.monotonic() - quantized,
        )
        device = str(model.device)
        del model
        gc.collect()
        record = Record(
            cell=cell.cell,
            status="done" if scores.metrics else "failed",
            reason="; ".join(scores.problems) or None,
            metrics=scores.metrics,
            survival=checkpoint.survival,
            calibration=calibration_facts(quantizer),
            extra=scores.extra,
            provenance=provenance(
                device,
                seconds=seconds,
                tasks=scores.versions,
                retrain_auc=planned.corpus.corpus.retrain_auc,
            ),
        )
        return Result(record, scores.samples)


def _remove(folder: Path) -> None:
    """Remove a folder, of which a process killed meanwhile leaves nothing that looks whole."""
    if folder.is_dir():
        hidden = folder.with_name(f".{folder.name}")
        shutil.rmtree(hidden, ignore_errors=True)
        folder.rename(hidden)
        shutil.rmtree(hidden, ignore_errors=True)


def _is_enough(planned: PlannedTraining) -> bool:
    """Whether target and adapter give the model: not where the method edits merged weights."""
    return planned.recipe is not None and (
        type(planned.recipe.unlearner).edit is Unlearner.edit and planned.parent is None
    )
