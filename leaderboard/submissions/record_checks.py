"""Checks of a single submitted record; nothing in it is trusted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from harness_tasks import scoring

from ..evaluation.evaluate import TASKS
from ..reading.untrusted_files import UnsafeError, short
from ..reading.untrusted_values import read_json
from ..records.schema import METRICS, SCHEMA_VERSION, SUITE_METRICS, UNQUANTIZED, Record
from ..records.version1 import BITS
from .manifest import FILE_NAME, METHOD_NAME

TOLERANCE = 2e-6
"""Largest difference of a recorded and a recomputed score."""
MAX_ANSWERS = 4_000
"""Largest number of answers to one task."""
BUILT_IN_BITS = {**BITS, UNQUANTIZED: None, "bf16": 16}
"""Bits per weight of the built-in quantizers."""

M = TypeVar("M", bound=BaseModel)


def read_record(content: bytes) -> Record:
    """Read a record from the bytes of its file.

    Raises:
        UnsafeError: The file holds no record of the current version; the message names the field.
    """
    value = read_json(content)
    if isinstance(value, dict):
        value.pop("sha256", None)  # of records before 0.2
        version = value.get("schema_version", 1)
        if version != SCHEMA_VERSION:
            text = f"{short(str(version))}, expected {SCHEMA_VERSION}: run the grid again"
            raise UnsafeError(f"schema_version: {text}")
    record = parse_model(Record, value, strict=True)
    for name, scores in record.examples.items():
        if len(scores.scores) > MAX_ANSWERS:
            raise UnsafeError(f"examples.{short(name)}: more than {MAX_ANSWERS}")
    return record


def parse_model(model: type[M], value: Any, *, strict: bool = False) -> M:
    """Build a pydantic model from a value of JSON types.

    Args:
        model: Class of the model.
        value: Value read from JSON or YAML.
        strict: Refuse values of other types instead of converting them.

    Raises:
        UnsafeError: The value does not fit; the message names the first invalid field.
    """
    try:
        return model.model_validate_json(json.dumps(value), strict=strict or None)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        field = short(".".join(map(str, first["loc"]))) or "top level"
        raise UnsafeError(f"{field}: {first['msg']}") from error


def record_problems(record: Record) -> Iterator[str]:
    """Check the names, status, metrics and task versions of a record.

    Yields:
        One line per problem.
    """
    cell, training = record.cell, record.cell.training
    bits = BUILT_IN_BITS.get(cell.quantizer, record.bits)
    if record.bits != bits:
        yield f"bits: {record.bits}, {cell.quantizer} has {bits}"
    elif cell.quantizer_params.get("bits", bits) != bits:
        param = short(str(cell.quantizer_params["bits"]))
        yield f"cell.quantizer_params.bits: {param}, {cell.quantizer} has {bits}"
    for name in ("dtype", "tokenizer"):
        if getattr(training, name) is None:
            yield f"cell.training.{name}: missing"
    for field, name, pattern in (
        ("cell.training.method", training.method, METHOD_NAME),
        ("cell.training.corpus.name", training.corpus.name, FILE_NAME),
        ("cell.training.finetuning", training.finetuning, FILE_NAME),
        ("cell.precision", cell.precision, FILE_NAME),
    ):
        if not pattern.fullmatch(name):
            yield f"{field}: {short(name)}, expected {pattern.pattern}"
    if not training.is_reference and training.settings.get("seed") != training.seed:
        yield f"cell.training.settings.seed: differs from cell.training.seed, {training.seed}"
    yield from _status_problems(record)
    yield from _metric_problems(record)
    if record.status == "done":
        for task, version in task_versions(record).items():
            recorded = record.provenance.tasks.get(task)
            if recorded != version:
                yield (
                    f"provenance.tasks.{task}: {short(str(recorded))}, this version of "
                    f"lm-eval-muse has {version}"
                )


def _status_problems(record: Record) -> Iterator[str]:
    """Compare the status with the metrics, answers and reason of a record."""
    expected = METRICS + (SUITE_METRICS if record.cell.training.stage else ())
    missing = [name for name in expected if name not in record.metrics]
    if unknown := [name for name in record.metrics if name not in expected]:
        yield f"metrics: {short(unknown[0])}, expected {', '.join(expected)}"
    if record.extra and not record.cell.extra_tasks:
        yield f"extra: {short(next(iter(record.extra)))}, but the cell has no extra tasks"
    if record.status == "failed":
        yield f"status: failed, but every cell needs a result: {short(record.reason or '')}"
    elif record.status == "diverged":
        if record.metrics or record.examples or record.extra or record.samples:
            yield "status: diverged, but there are metrics or answers"
        if not record.reason:
            yield "reason: missing, but the cell diverged"
    else:
        if not record.samples:
            yield "samples: missing; metrics cannot be recomputed without the answers"
        for name in missing:
            if f"{name}: " not in (record.reason or ""):
                yield f"metrics.{name}: missing, and `reason` does not say why"
        if record.reason and not missing:
            yield "reason: given, but no metric is missing"


def _metric_problems(record: Record) -> Iterator[str]:
    """Check the ranges of metrics, standard errors and retrain AUC."""
    auc = record.provenance.retrain_auc
    if auc is not None and not (
        0 < auc < 1 or (auc in (0, 1) and "privleak" not in record.metrics)
    ):
        yield f"provenance.retrain_auc: {auc}, expected a number between 0 and 1"
        return
    for name, metric in record.metrics.items():
        low, high = 0.0, 100.0
        if name == "privleak":
            if auc is None:
                yield "provenance.retrain_auc: missing, but there is a PrivLeak"
                continue
            low, high = (scoring.privleak(area, auc) for area in (0.0, 1.0))
        if not low - TOLERANCE <= metric.value <= high + TOLERANCE:
            yield f"metrics.{short(name)}: {metric.value}, expected {low:g} to {high:g}"
    for name, metric in (record.metrics | record.extra).items():
        if metric.stderr is not None and metric.stderr < 0:
            yield f"{short(name)}: standard error {metric.stderr}, below 0"


def task_versions(record: Record) -> dict[str, str]:
    """Look up the installed versions of the tasks that give a record's metrics."""
    tasks = [f"muse_{metric}" for metric in METRICS]
    if stage := record.cell.training.stage:
        tasks.append(f"muse_{stage.suite}_{stage.number}")
    return {task: _task_version(task) for task in tasks}


@cache
def _task_version(task: str) -> str:
    """Read the version from a task's YAML, or from the one it includes; loads no function."""
    content = yaml.load((TASKS / f"{task}.yaml").read_bytes(), Loader=_TaskLoader)
    if "metadata" in content:
        return str(content["metadata"]["version"])
    return _task_version(content["include"].removesuffix(".yaml"))


class _TaskLoader(yaml.SafeLoader):
    """Loader of task YAMLs that reads the name of a function as None."""


_TaskLoader.add_constructor("!function", lambda *_: None)
