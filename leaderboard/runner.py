"""Runs a plan: each checkpoint is made once, quantized n times, and every cell recorded."""

from __future__ import annotations

import copy
import gc
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness_tasks.calibration import calibration_facts, with_calibration
from harness_tasks.corpora import CorpusError
from harness_tasks.token_logprobs import RequestError

from .cell import Record, Seconds
from .config import RunConfig
from .errors import InputError
from .evaluation import evaluate
from .models import load_model, save_model
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


@dataclass
class Outcome:
    """How many cells a run has, by what became of them."""

    done: int = 0
    failed: int = 0
    kept: int = 0


class Runner:
    """Runs what a plan still lacks in a run folder.

    Args:
        config: for how models are loaded and evaluated.
        folder: where records and checkpoints go; the caller holds its lock.
        progress: told what is going on.
        retry_failed: whether cells that failed before are tried again; their records are set
            aside, not deleted.
    """

    def __init__(
        self,
        config: RunConfig,
        folder: RunFolder,
        progress: Progress,
        *,
        retry_failed: bool = False,
    ) -> None:
        self.config = config
        self.retry_failed = retry_failed
        self.folder = folder
        self.progress = progress

    def run(self, plan: list[PlannedTraining]) -> Outcome:
        """Run every cell without a record; a failed one is recorded and the rest goes on."""
        outcome = Outcome()
        if self.retry_failed:
            self.folder.set_failed_aside()
        self.progress.start(sum(len(planned.cells) for planned in plan))
        for planned in plan:
            missing = [c for c in planned.cells if not self.folder.record_path(c.cell).exists()]
            outcome.kept += len(planned.cells) - len(missing)
            self.progress.advance(len(planned.cells) - len(missing))
            if missing:
                self._run_training(planned, missing, outcome)
        return outcome

    def _run_training(
        self, planned: PlannedTraining, missing: list[PlannedCell], outcome: Outcome
    ) -> None:
        try:
            checkpoint = self._checkpoint(planned)
        except CONFIGURATION_ERRORS:
            raise
        except Exception as error:
            for cell in missing:
                self._record_failure(cell, error, outcome)
            return
        for cell in missing:
            self.progress.stage(f"{planned.title}: {cell.cell.precision}")
            try:
                record, answers = self._evaluate(planned, cell, checkpoint)
            except CONFIGURATION_ERRORS:
                raise
            except Exception as error:
                self._record_failure(cell, error, outcome)
                continue
            self.folder.write_record(record, answers)
            outcome.done += record.status == "done"
            outcome.failed += record.status != "done"
            self.progress.advance(1)

    def _checkpoint(self, planned: PlannedTraining) -> Checkpoint:
        """Load the checkpoint from the run folder, or make it."""
        settings = self.config.evaluation
        if planned.recipe is None:
            self.progress.stage(f"{planned.title}: loading")
            return Checkpoint(*load_source(planned, planned.training.method, settings), None)
        folder = self.folder.checkpoint_path(planned.training)
        saved = folder / "model"
        if saved.is_dir():
            self.progress.stage(f"{planned.title}: loading")
            loaded = load_model(str(saved), dtype=settings.dtype, device=settings.device)
            return Checkpoint(*loaded, None, self._survival(planned, folder))
        self.progress.stage(f"{planned.title}: training")
        if planned.parent is None:
            model, tokenizer = load_source(planned, "target", settings)
        else:
            before = self._checkpoint(planned.parent)
            model, tokenizer = before.model, before.tokenizer
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

    def _survival(self, planned: PlannedTraining, folder: Path) -> dict[str, Any] | None:
        target = planned.corpus.model("target")
        if target is None:
            return None
        precisions = {cell.cell.precision: cell.quantizer for cell in planned.cells}
        return measure_once(folder / "survival.json", target, folder / "model", precisions)

    def _evaluate(
        self, planned: PlannedTraining, cell: PlannedCell, checkpoint: Checkpoint
    ) -> tuple[Record, list[Sample]]:
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
        return record, scores.samples

    def _record_failure(self, cell: PlannedCell, error: Exception, outcome: Outcome) -> None:
        """Keep why a cell has no numbers; the next run does not try it again by itself."""
        from unlearners.base import DivergedError

        logger.debug("cell failed", exc_info=error)
        record = Record(
            cell=cell.cell,
            status="diverged" if isinstance(error, DivergedError) else "failed",
            reason=f"{type(error).__name__}: {error}",
            provenance=provenance(self.config.evaluation.device or "cpu"),
        )
        path: Path = self.folder.write_record(record)
        outcome.failed += 1
        self.progress.advance(1)
        self.progress.say(f"{record.status}: {path.name}: {record.reason}")
