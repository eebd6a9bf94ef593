"""The work of a grid: make checkpoints, quantize and evaluate them, and hand back results."""

from __future__ import annotations

import copy
import gc
import logging
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness_tasks.calibration import calibration_facts, with_calibration
from harness_tasks.corpora import CorpusError
from harness_tasks.token_logprobs import RequestError
from harness_tasks.transforms import merge_adapter
from quantizers import QuantizerError
from unlearners import Unlearner
from unlearners.checksums import write_checksums
from unlearners.facts import TrainingFacts, read_training_facts

from .config import RunConfig
from .errors import InputError, is_disk_full
from .evaluation import evaluate
from .models import load_model, refuse_damaged, save_model
from .plan import PlannedCell, PlannedTraining
from .progress import Progress
from .provenance import provenance
from .records.schema import Record, Seconds
from .records.survival import SurvivalReport
from .retrain_auc import run_retrain_scores
from .samples import Sample
from .steps import drop_trainer_checkpoints, load_source, unlearn
from .store import RunFolder
from .survival import SurvivalMeter, at_precision

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

# These end a run: they are about what all of it reads. Everything else is one cell's failure.
CONFIGURATION_ERRORS = (InputError, CorpusError, RequestError)


@dataclass(frozen=True)
class Result:
    """Result of one cell.

    Attributes:
        record: its numbers, or the reason why there are none.
        answers: the model's answers, where they are to be logged.
        survival: what this precision keeps of the update, layer by layer.
    """

    record: Record
    answers: Sequence[Sample] = field(default=())
    survival: SurvivalReport | None = None


@dataclass(frozen=True)
class Checkpoint:
    """A model in memory, before quantization.

    Attributes:
        seconds: time that its training took; None where it was loaded.
        training: circumstances of its training; None for a reference model, and where they are
            not known.
        meter: measures what quantizers keep of its update; None for a reference model, and where
            that is switched off or cannot be measured.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    seconds: float | None
    training: TrainingFacts | None = None
    meter: SurvivalMeter | None = None


class Worker:
    """Works through trainings and their cells; every failure is a result too.

    Args:
        config: for how models are loaded and evaluated, and what is kept of them.
        folder: where checkpoints and reference outputs are.
        progress: told what is going on.
    """

    def __init__(self, config: RunConfig, folder: RunFolder, progress: Progress) -> None:
        self.config, self.folder, self.progress = config, folder, progress
        self._target: tuple[tuple[Any, ...], PreTrainedModel] | None = None
        gc.freeze()  # what is imported stays: collecting after a cell need not walk through it

    def run(self, planned: PlannedTraining, cells: Sequence[PlannedCell]) -> Iterator[Result]:
        """Make or load the checkpoint and evaluate it in these cells, one result each.

        Raises:
            InputError, CorpusError, RequestError: what all cells read is wrong.
            Exception: nothing more can be written (``errors.is_disk_full``).
        """
        try:
            checkpoint = self._measured(planned, self._checkpoint(planned))
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
        """Make the record of a failed cell, which only ``--retry-failed`` tries again.

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
                bits=cell.quantizer.bits,
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
            loaded = load_model(
                str(saved), dtype=planned.training.dtype or "auto", device=settings.device
            )
            return Checkpoint(*loaded, None)
        model, tokenizer = self._start(planned)
        if adapter.is_dir():
            refuse_damaged(adapter)
            model, seconds = merge_adapter(model, str(adapter)), None
            save_model(model, tokenizer, saved)
        else:
            self.progress.stage(f"{planned.title}: training")
            start = time.monotonic()
            model = unlearn(
                planned.recipe,
                model,
                tokenizer,
                planned.corpus.data(planned.training.corpus.forget),
                folder=saved,
                output_dir=folder / "training",
                reference_cache=self.folder.path / "references",
                progress=self.progress,
            )
            seconds = time.monotonic() - start
        drop_trainer_checkpoints(folder / "training")
        return Checkpoint(model, tokenizer, seconds)

    def _start(self, planned: PlannedTraining) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        """The weights that a training starts from."""
        if planned.parent is None:
            return load_source(planned, "target", self.config.evaluation)
        before = self._checkpoint(planned.parent)
        return before.model, before.tokenizer

    def _measured(self, planned: PlannedTraining, checkpoint: Checkpoint) -> Checkpoint:
        """Add the circumstances of an unlearned checkpoint's training, and the meter."""
        if planned.recipe is None:
            return checkpoint
        folder = self.folder.checkpoint_path(planned.training)
        training = read_training_facts(folder / "training")
        meter = None
        if self.config.evaluation.survival:
            with self._optional(planned):
                target = self._load_target(planned)
                meter = SurvivalMeter(target, checkpoint.model, planned.training.stem)
        return replace(checkpoint, training=training, meter=meter)

    @contextmanager
    def _optional(self, planned: PlannedTraining) -> Iterator[None]:
        """Say that survival could not be measured; the scores do not depend on it."""
        try:
            yield
        except (QuantizerError, RuntimeError) as error:  # too little memory is a RuntimeError
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            self.progress.say(f"{planned.title}: survival is not measured: {reason}")

    def _load_target(self, planned: PlannedTraining) -> PreTrainedModel:
        """The model before unlearning, in main memory; the last one is kept for the next."""
        training = planned.training
        key = (training.corpus, training.model, training.dtype)
        if self._target is None or self._target[0] != key:
            self._target = None
            settings = self.config.evaluation.model_copy(update={"device": "cpu"})
            self._target = key, load_source(planned, "target", settings)[0]
        return self._target[1]

    def _retrain_scores(self, planned: PlannedTraining, cell: PlannedCell) -> Path | None:
        """File with the retrained model's scores, where PrivLeak's zero is measured."""
        zero = cell.cell.retrain_auc
        if zero is None or zero.source != "measured":
            return None
        settings = self.config.evaluation
        return run_retrain_scores(planned.corpus, settings, self.folder.path, self.progress)

    def _evaluate(
        self, planned: PlannedTraining, cell: PlannedCell, checkpoint: Checkpoint
    ) -> Result:
        zero = self._retrain_scores(planned, cell)
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
            stage=planned.training.stage,
            retrain_scores=zero,
            progress=self.progress,
        )
        seconds = Seconds(
            training=_rounded(checkpoint.seconds, 3),
            quantizing=round(quantized - start, 3),
            evaluating=round(time.monotonic() - quantized, 3),
        )
        report = None
        if checkpoint.meter:
            with self._optional(planned):
                report = checkpoint.meter.measure(cell.cell.precision, quantizer, model)
        zero_auc = scores.retrain_auc
        device, dtype = str(model.device), str(_plain_dtype(model)).removeprefix("torch.")
        del model
        gc.collect()
        record = Record(
            cell=cell.cell,
            status="done" if scores.metrics else "failed",
            reason="; ".join(scores.problems) or None,
            bits=quantizer.bits,
            dtype=dtype,
            metrics=scores.metrics,
            examples=scores.examples,
            survival=at_precision(report, cell.cell.precision) if report else None,
            generation_config=scores.generation_config,
            calibration=calibration_facts(quantizer),
            extra=scores.extra,
            provenance=provenance(
                device,
                seconds=seconds,
                tasks=scores.versions,
                batch_size=self.config.evaluation.batch_size,
                retrain_auc=zero_auc.value if zero_auc else None,
                retrain_auc_stderr=_rounded(zero_auc.stderr) if zero_auc else None,
                training=checkpoint.training,
            ),
        )
        return Result(record, scores.samples, report)


def _rounded(number: float | None, digits: int = 6) -> float | None:
    return None if number is None else round(number, digits)


def _plain_dtype(model: PreTrainedModel) -> torch.dtype:
    """Dtype of the embeddings, which no quantizer here changes but a cast of the whole model."""
    return model.get_input_embeddings().weight.dtype  # type: ignore[return-value]


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
