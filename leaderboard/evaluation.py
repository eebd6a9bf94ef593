"""The MUSE tasks on a model in memory, through lm-eval, without starting it anew."""

from __future__ import annotations

import contextlib
import difflib
import io
import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .cell import FOLD_METRICS, METRICS, Fold, Metric
from .config import CorpusEntry, Evaluation
from .errors import InputError
from .samples import Sample, from_lm_eval

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from .progress import Progress

FEWSHOT_SEED = 1234  # lm-eval's default; MUSE's own in-context examples are fixed
TASKS = Path(__file__).parent.parent / "harness_tasks" / "muse"


@dataclass(frozen=True)
class Scores:
    """What the tasks gave.

    Attributes:
        metrics: scores × 100 with standard errors; one that is not a number is missing here.
        problems: for each missing score, why there is none.
        versions: of every task.
        extra: scores of the extra tasks by ``<task>/<metric>``, in lm-eval's own units.
        samples: every answer to the four tasks, where they are to be logged.
    """

    metrics: dict[str, Metric]
    problems: list[str]
    versions: dict[str, str]
    extra: dict[str, Metric]
    samples: list[Sample]


def evaluate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    corpus: CorpusEntry,
    settings: Evaluation,
    fold: Fold | None = None,
    progress: Progress | None = None,
) -> Scores:
    """Score a model on the four tasks of a corpus, and on the forget set of a fold."""
    places = {name: f"muse_{name}" for name in METRICS}
    tasks = ["muse"]
    if fold is not None:
        tasks.append(f"muse_{fold.suite}_{fold.number}")
        places |= dict.fromkeys(FOLD_METRICS, tasks[-1])
    results = run_tasks(
        model, tokenizer, corpus, tasks, settings, progress, log_samples=settings.log_samples
    )
    metrics, problems = {}, []
    for name, task in places.items():
        row = results["results"][task]
        value, error = row[f"{name},none"], row[f"{name}_stderr,none"]
        if isinstance(value, str) or not math.isfinite(value):
            problems.append(f"{name}: {value}")
        else:
            stderr = None if isinstance(error, str) else float(error)
            metrics[name] = Metric(value=float(value), stderr=stderr)
    samples = [
        from_lm_eval(name, logged, results["configs"][task].get("generation_kwargs", {}))
        for name, task in places.items()
        if name in METRICS
        for logged in results.get("samples", {}).get(task, [])
    ]
    extra: dict[str, Metric] = {}
    versions = results["versions"]
    if settings.extra_tasks:
        others = run_extra_tasks(model, tokenizer, settings, progress)
        versions = versions | others["versions"]
        extra = extra_metrics(others)
    return Scores(
        metrics, problems, {name: str(of) for name, of in versions.items()}, extra, samples
    )


def retrain_auc(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    corpus: CorpusEntry,
    settings: Evaluation,
    progress: Progress | None = None,
) -> float:
    """The AUC that PrivLeak takes as its zero, measured on the corpus' retrained model.

    Raises:
        InputError: there is none, as of a model that gives NaN.
    """
    results = run_tasks(model, tokenizer, corpus, ["muse_auc"], settings, progress)
    auc = results["results"]["muse_auc"]["auc,none"]
    if isinstance(auc, str):
        raise InputError(f"no AUC on corpus {corpus.name}: {auc}")
    return float(auc)


def run_tasks(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    corpus: CorpusEntry,
    tasks: list[str],
    settings: Evaluation,
    progress: Progress | None,
    *,
    log_samples: bool = False,
) -> dict[str, Any]:
    """Run lm-eval tasks of ours on one corpus and return lm-eval's results."""
    with _quiet():
        loaded = _task_manager(corpus.name, corpus.data_dir).load(tasks)
        samples = {
            name: subset_indices(len(task.eval_docs), settings)
            for name, task in loaded["tasks"].items()
        }
        # every error here has a closed form: the iterations only have to be above 0
        return _evaluate(
            model,
            tokenizer,
            loaded,
            settings,
            progress,
            samples=samples,
            log_samples=log_samples,
            bootstrap_iters=100,
        )


def run_extra_tasks(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    settings: Evaluation,
    progress: Progress | None,
) -> dict[str, Any]:
    """Run ``extra_tasks``, lm-eval's own or any that its index knows."""
    with _quiet():
        loaded = _all_tasks().load(settings.extra_tasks)
        return _evaluate(
            model, tokenizer, loaded, settings, progress, limit=settings.limit, log_samples=False
        )


def check_extra_tasks(names: list[str]) -> None:
    """Refuse a task that lm-eval does not know, before anything is trained.

    Raises:
        InputError: with the nearest names.
    """
    for name in names:
        if name not in (known := _all_tasks().all_tasks):
            near = difflib.get_close_matches(name, known, n=3)
            hint = f"; nearest: {', '.join(near)}" if near else "; `lm_eval ls tasks` lists them"
            raise InputError(f"evaluation.extra_tasks: lm-eval has no task '{name}'{hint}")


def extra_metrics(results: dict[str, Any]) -> dict[str, Metric]:
    """The numbers in lm-eval's results, as ``<task>/<metric>``, with their standard errors."""
    metrics = {}
    for task, row in results["results"].items():
        for key, value in row.items():
            name, _, score_filter = key.partition(",")
            if isinstance(value, str) or not score_filter or name.endswith("_stderr"):
                continue
            if not math.isfinite(value):
                continue
            error = row.get(f"{name}_stderr,{score_filter}")
            stderr = error if isinstance(error, float) and math.isfinite(error) else None
            label = name if score_filter == "none" else key
            metrics[f"{task}/{label}"] = Metric(value=float(value), stderr=stderr)
    return metrics


def _evaluate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    loaded: dict[str, Any],
    settings: Evaluation,
    progress: Progress | None,
    **options: Any,
) -> dict[str, Any]:
    """``lm_eval.evaluate`` on a model in memory.

    ``simple_evaluate`` would describe the machine anew for every cell, which takes longer than
    evaluating a small model.
    """
    import lm_eval

    from harness_tasks.lm import MuseHFLM

    lm = MuseHFLM(pretrained=model, tokenizer=tokenizer, batch_size=settings.batch_size)
    if progress is not None:
        lm.progress_bar = progress.requests
    for task in loaded["tasks"].values():
        task.set_fewshot_seed(FEWSHOT_SEED)
    return dict(lm_eval.evaluate(lm, loaded, **options) or {})


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Our own progress bar tells what is going on, in place of one of lm-eval's per request."""
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    with contextlib.redirect_stderr(io.StringIO()):
        yield


def subset_indices(examples: int, settings: Evaluation) -> list[int]:
    """Which examples of a task are evaluated: the first ``limit`` of the subset.

    The halves take turns by pairs, because PrivLeak's texts alternate between forget and holdout.
    """
    half = {"selection": 0, "final": 1}.get(settings.subset)
    chosen = [i for i in range(examples) if half is None or i // 2 % 2 == half]
    return chosen[: settings.limit]


@cache
def _task_manager(corpus: str, data_dir: Path | None) -> Any:
    """Our tasks alone: lm-eval's own thousands take seconds to index."""
    from lm_eval.tasks import TaskManager

    metadata = {"corpus": corpus} | ({"data_dir": str(data_dir)} if data_dir else {})
    return TaskManager(include_path=str(TASKS), include_defaults=False, metadata=metadata)


@cache
def _all_tasks() -> Any:
    from lm_eval.tasks import TaskManager

    return TaskManager()
