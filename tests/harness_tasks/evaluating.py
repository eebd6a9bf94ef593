"""Evaluation of the tasks through any supported version of lm-eval."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import lm_eval
from lm_eval.tasks import TaskManager

import harness_tasks

TASKS = Path(harness_tasks.__file__).parent / "muse"


@cache
def task_manager(metadata: str) -> TaskManager:
    return TaskManager(
        include_path=str(TASKS), include_defaults=False, metadata=json.loads(metadata)
    )


def evaluate(
    lm: Any, corpus: Path, tasks: list[str], metadata: dict[str, Any] | None = None, **options: Any
) -> dict[str, Any]:
    manager = task_manager(json.dumps({"corpus": str(corpus), **(metadata or {})}))
    results = lm_eval.simple_evaluate(
        model=lm, tasks=tasks, task_manager=manager, **{"bootstrap_iters": 100, **options}
    )
    assert results is not None
    return own_names(results)


def own_names(results: dict[str, Any]) -> dict[str, Any]:
    """Rename tasks in results: lm-eval 0.5 calls one of a group ``group::task``."""
    return {
        part: {name.rpartition("::")[2]: entry for name, entry in content.items()}
        if part in ("results", "configs", "versions", "n-samples", "higher_is_better", "samples")
        else content
        for part, content in results.items()
    }


def score(results: dict[str, Any], task: str, metric: str) -> Any:
    return results["results"][task][f"{metric},none"]
