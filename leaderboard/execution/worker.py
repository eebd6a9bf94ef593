"""Worker: makes checkpoints, quantizes and evaluates them, and yields results."""

from __future__ import annotations

import copy
import gc
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness_tasks.calibration import calibration_facts, with_calibration
from harness_tasks.errors import CorpusError, RequestError
from quantizers import QuantizerError

from ..config import RunConfig
from ..errors import InputError, is_disk_full
from ..evaluation.evaluate import evaluate
from ..evaluation.survival import SurvivalMeter, at_precision
from ..grid.plan import PlannedCell, PlannedTraining
from ..progress import Progress
from ..records.provenance import provenance
from ..records.samples import Sample
from ..records.schema import Record, Seconds
from ..records.store import RunFolder
from ..records.survival import SurvivalReport
from .checkpoint import Checkpoint, LoadedCheckpoint, load_source

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

logger = logging.getLogger(__name__)

# These end a run, because all cells have the same input. Other errors fail one cell.
CONFIGURATION_ERRORS = (InputError, CorpusError, RequestError)


@dataclass(frozen=True)
class Result:
    """Result of one cell.

    Attributes:
        record: Scores, or the reason for their absence.
        answers: The model's answers, if they are logged.
        survival: Part of the update that the precision keeps, layer by layer.
    """

    record: Record
    answers: Sequence[Sample] = field(default=())
    survival: SurvivalReport | None = None


class Worker:
    """Evaluates the cells of trainings; a failure is a result too.

    Args:
        config: Configuration of the run.
        folder: Folder of the run.
        progress: Progress bars.
    """

    def __init__(self, config: RunConfig, folder: RunFolder, progress: Progress) -> None:
        self.config, self.folder, self.progress = config, folder, progress
        self._target: tuple[tuple[Any, ...], PreTrainedModel] | None = None
        gc.freeze()  # garbage collection after a cell need not walk through imported modules

    def run(self, planned: PlannedTraining, cells: Sequence[PlannedCell]) -> Iterator[Result]:
        """Make or load the checkpoint and evaluate it in these cells, one result each.

        Raises:
            InputError, CorpusError, RequestError: An input of all cells is wrong.
            Exception: The disk is full (``errors.is_disk_full``).
        """
        try:
            checkpoint = self.checkpoint(planned).load()
            meter = self._meter(planned, checkpoint)
        except CONFIGURATION_ERRORS:
            raise
        except Exception as error:
            for cell in cells:
                yield self.failure(cell, error)
            return
        for cell in cells:
            self.progress.stage(f"{planned.title}: {cell.cell.precision}")
            try:
                yield self._evaluate(planned, cell, checkpoint, meter)
            except CONFIGURATION_ERRORS:
                raise
            except Exception as error:
                yield self.failure(cell, error)

    def failure(self, cell: PlannedCell, error: Exception) -> Result:
        """Make the record of a failed cell, which only ``--retry-failed`` evaluates again.

        Raises:
            Exception: ``error`` itself if the disk is full.
        """
        from unlearners.errors import DivergedError

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

    def checkpoint(self, planned: PlannedTraining) -> Checkpoint:
        """Checkpoint of a training in the run folder."""
        return Checkpoint(planned, self.config, self.folder, self.progress)

    def _meter(
        self, planned: PlannedTraining, checkpoint: LoadedCheckpoint
    ) -> SurvivalMeter | None:
        """Meter of what quantizers keep of an update; None if there is nothing to measure."""
        if planned.recipe is None or not self.config.evaluation.survival:
            return None
        with self._optional(planned):
            target = self._load_target(planned)
            return SurvivalMeter(target, checkpoint.model, planned.training.stem)
        return None

    @contextmanager
    def _optional(self, planned: PlannedTraining) -> Iterator[None]:
        """Report that survival could not be measured, and continue: the scores do not need it."""
        try:
            yield
        except (QuantizerError, RuntimeError) as error:  # too little memory is a RuntimeError
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            self.progress.say(f"{planned.title}: survival is not measured: {reason}")

    def _load_target(self, planned: PlannedTraining) -> PreTrainedModel:
        """Load the model before unlearning into main memory; the last one is kept."""
        training = planned.training
        key = (training.corpus, training.model, training.dtype)
        if self._target is None or self._target[0] != key:
            self._target = None
            settings = self.config.evaluation.model_copy(update={"device": "cpu"})
            self._target = key, load_source(planned, "target", settings)[0]
        return self._target[1]

    def _retrain_scores(self, planned: PlannedTraining, cell: PlannedCell) -> Path | None:
        """File with the retrained model's scores; None if PrivLeak's zero is not measured."""
        zero = cell.cell.retrain_auc
        if zero is None or zero.source != "measured":
            return None
        settings = self.config.evaluation
        return planned.corpus.retrain_scores(settings, self.folder.path, self.progress)

    def _evaluate(
        self,
        planned: PlannedTraining,
        cell: PlannedCell,
        checkpoint: LoadedCheckpoint,
        meter: SurvivalMeter | None,
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
        if meter:
            with self._optional(planned):
                report = meter.measure(cell.cell.precision, quantizer, model)
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
    """Dtype of the embeddings, which only a cast of the whole model changes."""
    return model.get_input_embeddings().weight.dtype  # type: ignore[return-value]
