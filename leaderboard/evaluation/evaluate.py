"""Evaluation of a model in memory with the tasks of MUSE, through lm-eval."""

from __future__ import annotations

import contextlib
import difflib
import io
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness_tasks import scoring

from ..config import CorpusEntry, Evaluation
from ..errors import InputError
from ..records.samples import (
    SIDES,
    Sample,
    example_scores,
    from_lm_eval,
)
from ..records.schema import (
    METRICS,
    SUITE_METRICS,
    ExampleScores,
    Metric,
    SuiteStage,
)
from ..standings.estimates import Estimate, measured_metric, of_auc

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from harness_tasks.tasks.privleak import Membership

    from ..progress import Progress

FEWSHOT_SEED = 1234  # lm-eval's default; MUSE's own in-context examples are fixed
TASKS = Path(__file__).parents[2] / "harness_tasks" / "muse"


@dataclass(frozen=True)
class Scores:
    """Results of the tasks.

    Attributes:
        metrics: Scores × 100 with their errors; one that is not a number is missing.
        problems: Reasons of missing scores.
        versions: Versions of the tasks.
        extra: Scores of the extra tasks by ``<task>/<metric>``, in lm-eval's units.
        examples: Scores of single examples by metric, PrivLeak's by side.
        samples: Answers to the four tasks, if they are logged.
        retrain_auc: Zero of PrivLeak with its error; None without one.
        generation_config: The model's own generation settings, which the four tasks ignore.
    """

    metrics: dict[str, Metric]
    problems: list[str]
    versions: dict[str, str]
    extra: dict[str, Metric]
    examples: dict[str, ExampleScores]
    samples: list[Sample]
    retrain_auc: Estimate | None
    generation_config: dict[str, Any]


def evaluate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    corpus: CorpusEntry,
    settings: Evaluation,
    *,
    stage: SuiteStage | None = None,
    retrain_scores: Path | None = None,
    progress: Progress | None = None,
) -> Scores:
    """Score a model on the four tasks of a corpus, and on the forget set of a stage of a suite.

    Args:
        model: The model, on the device that evaluates.
        tokenizer: Its tokenizer.
        corpus: The corpus.
        settings: Subset, batch size and extra tasks.
        stage: Stage of a suite.
        retrain_scores: File with the retrained model's Min-40% scores, the zero of PrivLeak; the
            corpus' own AUC if left out.
        progress: Progress bars.
    """
    from harness_tasks.requests.decoding import own_settings

    tasks_by_metric = {name: f"muse_{name}" for name in METRICS}
    tasks = [*tasks_by_metric.values()]
    if stage is not None:
        tasks.append(f"muse_{stage.suite}_{stage.number}")
        tasks_by_metric |= dict.fromkeys(SUITE_METRICS, tasks[-1])
    results = run_tasks(
        model, tokenizer, corpus, tasks, settings, progress, retrain_scores=retrain_scores
    )
    logged = {
        task: sorted(entries, key=lambda entry: entry["doc_id"])
        for task, entries in results["samples"].items()
    }
    samples = [
        from_lm_eval(metric, entry, results["configs"][task].get("generation_kwargs", {}))
        for metric, task in tasks_by_metric.items()
        if metric in METRICS
        for entry in logged[task]
    ]
    examples = example_scores(samples)
    zero = _retrain_auc([entry["privleak"] for entry in logged["muse_privleak"]], examples)
    metrics, problems = {}, []
    for name, task in tasks_by_metric.items():
        value, error = (results["results"][task][f"{key},none"] for key in (name, f"{name}_stderr"))
        if isinstance(value, str) or not math.isfinite(value):
            problems.append(f"{name}: {value}")
        elif name in METRICS:
            metrics[name] = measured_metric(name, float(value), examples, zero)
        else:
            stderr = None if isinstance(error, str) else float(error)
            metrics[name] = Metric(value=float(value), stderr=stderr)
    extra: dict[str, Metric] = {}
    versions = results["versions"]
    if settings.extra_tasks:
        others = run_extra_tasks(model, tokenizer, settings, progress)
        versions = versions | others["versions"]
        extra = extra_metrics(others)
    return Scores(
        metrics=metrics,
        problems=problems,
        versions={name: str(version) for name, version in versions.items()},
        extra=extra,
        examples=examples,
        samples=samples if settings.log_samples else [],
        retrain_auc=zero,
        generation_config=own_settings(model),
    )


def _retrain_auc(
    memberships: Sequence[Membership], examples: Mapping[str, ExampleScores]
) -> Estimate | None:
    """Zero of PrivLeak on the texts that were evaluated.

    Measured if the retrained model's score of every text is known. A published constant gets the
    error of Hanley and McNeil (1982), as of an independent sample.
    """
    sides = [examples[f"privleak/{side}"] for side in SIDES]
    known = [[m.retrain_score for m in memberships if m.split == side] for side in SIDES]
    if all(score is not None for side in known for score in side):
        return of_auc(
            *(
                side.model_copy(update={"scores": tuple(scores)})
                for side, scores in zip(sides, known, strict=True)
            )
        )
    constant = memberships[0].retrain_auc
    if constant is None:
        return None
    forget, holdout = (len(side.scores) for side in sides)
    stderr = scoring.hanley_mcneil_stderr(constant, holdout, forget)
    return Estimate(constant, {("retrain_auc",): stderr}, span=1.0)


def retrain_scores(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    corpus: CorpusEntry,
    settings: Evaluation,
    progress: Progress | None = None,
) -> dict[str, list[float]]:
    """Score all PrivLeak texts of a corpus with its retrained model: Min-40% by side.

    Args:
        model: The retrained model.
        tokenizer: Its tokenizer.
        corpus: The corpus.
        settings: Batch size.
        progress: Progress bars.

    Raises:
        InputError: The model gives NaN.
    """
    whole = settings.model_copy(update={"subset": "all", "limit": None})
    results = run_tasks(model, tokenizer, corpus, ["muse_auc"], whole, progress)
    scores: dict[str, list[float]] = {"forget": [], "holdout": []}
    for entry in sorted(results["samples"]["muse_auc"], key=lambda entry: entry["doc_id"]):
        scores[entry["auc"].split].append(round(entry["auc"].score, 6))
    if any(math.isnan(score) for side in scores.values() for score in side):
        raise InputError(f"no AUC on corpus {corpus.name}: the model gives NaN")
    return scores


def run_tasks(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    corpus: CorpusEntry,
    tasks: list[str],
    settings: Evaluation,
    progress: Progress | None,
    *,
    retrain_scores: Path | None = None,
) -> dict[str, Any]:
    """Run tasks of MUSE on one corpus; return lm-eval's results with samples.

    Args:
        model: The model, on the device that evaluates.
        tokenizer: Its tokenizer.
        corpus: The corpus.
        tasks: Names of the tasks.
        settings: Subset and batch size.
        progress: Progress bars.
        retrain_scores: File with the retrained model's Min-40% scores, the zero of PrivLeak.
    """
    with _quiet():
        loaded = _task_manager(corpus.name, corpus.data_dir, retrain_scores).load(tasks)
        samples = {
            name: subset_indices(len(task.eval_docs), settings)
            for name, task in loaded["tasks"].items()
        }
        # all standard errors have a closed form, but the number must be above 0
        return _evaluate(
            model,
            tokenizer,
            loaded,
            settings,
            progress,
            samples=samples,
            log_samples=True,
            bootstrap_iters=100,
        )


def run_extra_tasks(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    settings: Evaluation,
    progress: Progress | None,
) -> dict[str, Any]:
    """Run the extra tasks, any that lm-eval's index knows.

    Args:
        model: The model, on the device that evaluates.
        tokenizer: Its tokenizer.
        settings: Tasks, limit and batch size.
        progress: Progress bars.
    """
    with _quiet():
        loaded = _all_tasks().load(settings.extra_tasks)
        return _evaluate(
            model, tokenizer, loaded, settings, progress, limit=settings.limit, log_samples=False
        )


def check_extra_tasks(names: list[str]) -> None:
    """Refuse a task that lm-eval does not know, before anything is trained.

    Raises:
        InputError: A task is unknown; the message has the nearest names.
    """
    for name in names:
        if name not in (known := _all_tasks().all_tasks):
            near = difflib.get_close_matches(name, known, n=3)
            hint = f"; nearest: {', '.join(near)}" if near else "; `lm_eval ls tasks` lists them"
            raise InputError(f"evaluation.extra_tasks: lm-eval has no task '{name}'{hint}")


def extra_metrics(results: dict[str, Any]) -> dict[str, Metric]:
    """Read scores and standard errors from lm-eval's results, by ``<task>/<metric>``."""
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
    """Run ``lm_eval.evaluate`` on a model in memory.

    ``simple_evaluate`` would describe the machine again for every cell, which takes longer than
    evaluating a small model.
    """
    import lm_eval

    from harness_tasks.lm import MuseHFLM

    lm = MuseHFLM(pretrained=model, tokenizer=tokenizer, batch_size=settings.batch_size)
    if progress is not None:
        lm.progress_bar = progress.requests
    for task in loaded["tasks"].values():
        task.set_fewshot_seed(FEWSHOT_SEED)
    options["apply_chat_template"] = settings.chat_template
    return dict(lm_eval.evaluate(lm, loaded, **options) or {})


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence lm-eval's logs and progress bars; ours is shown."""
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    with contextlib.redirect_stderr(io.StringIO()):
        yield


def subset_indices(examples: int, settings: Evaluation) -> list[int]:
    """Choose the examples of a task: the first ``limit`` of the subset.

    The halves take turns by pairs, because PrivLeak's texts alternate between forget and holdout.
    """
    half = {"validation": 0, "test": 1}.get(settings.subset)
    chosen = [i for i in range(examples) if half is None or i // 2 % 2 == half]
    return chosen[: settings.limit]


@cache
def _task_manager(corpus: str, data_dir: Path | None, retrain_scores: Path | None) -> Any:
    """Index of our tasks alone; lm-eval's thousands take seconds."""
    from lm_eval.tasks import TaskManager

    metadata = {"corpus": corpus}
    if data_dir:
        metadata["data_dir"] = str(data_dir)
    if retrain_scores:
        metadata["retrain_scores"] = str(retrain_scores)
    return TaskManager(include_path=str(TASKS), include_defaults=False, metadata=metadata)


@cache
def _all_tasks() -> Any:
    from lm_eval.tasks import TaskManager

    return TaskManager()
