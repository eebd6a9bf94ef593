"""The MUSE tasks on a model in memory, through lm-eval, without starting it anew."""

from __future__ import annotations

import contextlib
import io
import logging
import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .cell import FOLD_METRICS, METRICS, Fold, Metric
from .config import CorpusEntry, Evaluation

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

FEWSHOT_SEED = 1234  # lm-eval's default; MUSE's own in-context examples are fixed
TASKS = Path(__file__).parent.parent / "harness_tasks" / "muse"


@dataclass(frozen=True)
class Scores:
    """What the tasks gave.

    Attributes:
        metrics: scores × 100 with standard errors; one that is not a number is missing here.
        problems: for each missing score, why there is none.
        versions: of every task.
    """

    metrics: dict[str, Metric]
    problems: list[str]
    versions: dict[str, str]


def evaluate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    corpus: CorpusEntry,
    settings: Evaluation,
    fold: Fold | None = None,
) -> Scores:
    """Score a model on the four tasks of a corpus, and on the forget set of a fold."""
    places = {name: f"muse_{name}" for name in METRICS}
    tasks = ["muse"]
    if fold is not None:
        tasks.append(f"muse_{fold.suite}_{fold.number}")
        places |= dict.fromkeys(FOLD_METRICS, tasks[-1])
    results = run_tasks(model, tokenizer, corpus, tasks, settings)
    metrics, problems = {}, []
    for name, task in places.items():
        row = results["results"][task]
        value, error = row[f"{name},none"], row[f"{name}_stderr,none"]
        if isinstance(value, str) or not math.isfinite(value):
            problems.append(f"{name}: {value}")
        else:
            stderr = None if isinstance(error, str) else float(error)
            metrics[name] = Metric(value=float(value), stderr=stderr)
    versions = {name: str(version) for name, version in results["versions"].items()}
    return Scores(metrics, problems, versions)


def retrain_auc(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    corpus: CorpusEntry,
    settings: Evaluation,
) -> float:
    """The AUC that PrivLeak takes as its zero, measured on the corpus' retrained model."""
    results = run_tasks(model, tokenizer, corpus, ["muse_auc"], settings)
    return float(results["results"]["muse_auc"]["auc,none"])


def run_tasks(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    corpus: CorpusEntry,
    tasks: list[str],
    settings: Evaluation,
) -> dict[str, Any]:
    """Run lm-eval tasks of ours on one corpus and return lm-eval's results.

    ``lm_eval.evaluate`` on a model in memory: ``simple_evaluate`` would describe the machine
    anew for every cell, which takes longer than evaluating a small model.
    """
    import lm_eval

    from harness_tasks.lm import MuseHFLM

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    # our own progress bar tells what is going on, in place of one of lm-eval's per request type
    with contextlib.redirect_stderr(io.StringIO()):
        lm = MuseHFLM(pretrained=model, tokenizer=tokenizer, batch_size=settings.batch_size)
        loaded = _task_manager(corpus.name, corpus.data_dir).load(tasks)
        for task in loaded["tasks"].values():
            task.set_fewshot_seed(FEWSHOT_SEED)
        samples = {
            name: subset_indices(len(task.eval_docs), settings)
            for name, task in loaded["tasks"].items()
        }
        results = lm_eval.evaluate(
            lm,
            loaded,
            samples=samples,
            log_samples=False,
            bootstrap_iters=100,  # only has to be above 0: every error here has a closed form
        )
    return dict(results or {})


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
