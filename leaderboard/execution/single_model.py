"""Commands on a single model: unlearn, quantize, evaluate, compare with its target."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import reduce
from importlib.metadata import version
from pathlib import Path
from typing import Any

from harness_tasks.cache import build_once
from harness_tasks.calibration import with_calibration
from harness_tasks.corpora import load_corpus
from quantizers import CalibratedQuantizer, Quantizer, get_quantizer
from quantizers.saving import save_quantized

from ..config import (
    CorpusEntry,
    Evaluation,
    ModelSource,
    PrecisionEntry,
    RunConfig,
    UnlearnEntry,
)
from ..errors import InputError
from ..evaluation.evaluate import Scores
from ..evaluation.evaluate import evaluate as evaluate_in_memory
from ..evaluation.survival import SurvivalMeter
from ..grid.plan import make_plan
from ..models.card import unlearned_card
from ..models.folders import (
    copy_processor,
    load_model,
    refuse_full,
    try_saving,
)
from ..progress import Progress
from ..records.schema import UNQUANTIZED
from ..records.survival import SurvivalReport
from ..training.train import train_to_folder
from .checkpoint import load_source


def unlearn_to_folder(
    entry: UnlearnEntry,
    model: ModelSource,
    corpus: CorpusEntry,
    folder: Path,
    progress: Progress,
) -> None:
    """Unlearn one model and save it; an interrupted run with the same settings resumes.

    Args:
        entry: Method, finetuning and settings.
        model: The target model.
        corpus: The corpus to unlearn.
        folder: Folder of the unlearned model, see ``train_to_folder``.
        progress: Progress bars.

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


def quantize_to_folder(
    path: str,
    revision: str | None,
    quantizer: str,
    params: dict[str, Any],
    folder: Path,
    corpus: CorpusEntry | None = None,
) -> None:
    """Quantize a model and save it with the quantizer's configuration, ``quantizer.json``.

    Args:
        path: Folder or hub id of the model.
        revision: Commit on the hub.
        quantizer: Name of the quantizer.
        params: Parameters of the quantizer.
        folder: Folder of the quantized model.
        corpus: Corpus with the retain set for a calibrated quantizer.

    Raises:
        InputError: ``folder`` is not empty, the corpus for a calibrated quantizer is missing, or
            the model cannot be loaded or saved.
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
    """Load, quantize and score a model.

    Args:
        path: Folder or hub id of the model.
        revision: Commit on the hub.
        quantizer: Name of the quantizer.
        corpus: The corpus to evaluate on.
        settings: Settings of the evaluation.
        progress: Progress bars.
    """
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
        target: The model before unlearning.
        unlearned: Folder of the unlearned model, adapters merged, not quantized.
        quantizers: Quantizers by the name of their precision in the report.
        device: Torch device that computes.

    Raises:
        InputError: A model cannot be loaded.
        QuantizerError: The two cannot be compared.
    """
    after, _ = load_model(str(unlearned), device=device)
    before, _ = load_model(target.path, revision=target.revision, dtype=after.dtype, device="cpu")
    meter = SurvivalMeter(before, after, unlearned.resolve().name)
    reports = [
        meter.measure(name, quantizer, quantizer(copy.deepcopy(after)))
        for name, quantizer in quantizers.items()
    ]
    return reduce(SurvivalReport.merge, reports)
