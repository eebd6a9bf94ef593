"""Checks of one submitted record by itself; nothing in it is trusted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache

import yaml
from pydantic import ValidationError

from harness_tasks import scoring

from ..evaluation.evaluate import TASKS
from ..reading.untrusted_files import Unsafe, short
from ..reading.untrusted_values import read_json
from ..records.schema import (
    METRICS,
    SCHEMA_VERSION,
    SUITE_METRICS,
    UNQUANTIZED,
    Record,
)
from ..records.version1 import BITS
from .manifest import FILE_NAME, METHOD_NAME

TOLERANCE = 2e-6
MOST_ANSWERS = 4_000
"""Largest number of answers to one task."""
BUILT_IN_BITS = {**BITS, UNQUANTIZED: None, "bf16": 16}
"""Bits per weight of the built-in quantizers."""


def read_record(content: bytes) -> Record:
    """Read a record from the bytes of its file.

    Raises:
        Unsafe: the file holds no record of this version; the message names the place in it.
    """
    value = read_json(content)
    version = value.get("schema_version", 1) if isinstance(value, dict) else SCHEMA_VERSION
    if version != SCHEMA_VERSION:
        raise Unsafe(
            f"schema_version: {short(str(version))}, expected {SCHEMA_VERSION}: run the grid again"
        )
    if isinstance(value, dict):
        value.pop("sha256", None)  # of records before 0.2
    try:
        record = Record.model_validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        raise Unsafe(first_error(error)) from error
    for name, scores in record.examples.items():
        if len(scores.scores) > MOST_ANSWERS:
            raise Unsafe(f"examples.{short(name)}: more than {MOST_ANSWERS}")
    return record


def first_error(error: ValidationError) -> str:
    """Place and message of the first error that pydantic found."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = short(".".join(map(str, first["loc"]))) or "top level"
    return f"{place}: {first['msg']}"


def record_problems(record: Record) -> Iterator[str]:
    """Check a record by itself."""
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
    if not METHOD_NAME.fullmatch(training.method):
        yield f"cell.training.method: {short(training.method)}, expected {METHOD_NAME.pattern}"
    for place, name in (
        ("cell.training.corpus.name", training.corpus.name),
        ("cell.training.finetuning", training.finetuning),
        ("cell.precision", cell.precision),
    ):
        if not FILE_NAME.fullmatch(name):
            yield f"{place}: {short(name)}, expected {FILE_NAME.pattern}"
    if not training.is_reference and training.settings.get("seed") != training.seed:
        yield f"cell.training.settings.seed: is not cell.training.seed, {training.seed}"
    yield from _status_problems(record)
    yield from _metric_problems(record)
    if record.status == "done":
        for task, version in task_versions(record).items():
            found = record.provenance.tasks.get(task)
            if found != version:
                yield (
                    f"provenance.tasks.{task}: {short(str(found))}, this version of "
                    f"lm-eval-muse has {version}"
                )


def _status_problems(record: Record) -> Iterator[str]:
    expected = METRICS + (SUITE_METRICS if record.cell.training.stage else ())
    missing = [name for name in expected if name not in record.metrics]
    if unknown := [name for name in record.metrics if name not in expected]:
        yield f"metrics: {short(unknown[0])}, expected {', '.join(expected)}"
    if record.extra and not record.cell.extra_tasks:
        yield f"extra: {short(next(iter(record.extra)))}, and the cell names no extra tasks"
    if record.status == "failed":
        yield f"status: failed, and every cell needs a result: {short(record.reason or '')}"
    elif record.status == "diverged":
        if record.metrics or record.examples or record.extra or record.samples:
            yield "status: diverged, yet there are metrics or answers"
        if not record.reason:
            yield "reason: missing, although the cell diverged"
    else:
        if not record.samples:
            yield "samples: missing; without the answers no metric can be computed again"
        for name in missing:
            if f"{name}: " not in (record.reason or ""):
                yield f"metrics.{name}: missing, and `reason` does not say why"
        if record.reason and not missing:
            yield "reason: there is one, although no metric is missing"


def _metric_problems(record: Record) -> Iterator[str]:
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
                yield "provenance.retrain_auc: missing, although there is a PrivLeak"
                continue
            low, high = (scoring.privleak(area, auc) for area in (0.0, 1.0))
        if not low - TOLERANCE <= metric.value <= high + TOLERANCE:
            yield f"metrics.{short(name)}: {metric.value}, expected {low:g} to {high:g}"
    for name, metric in (record.metrics | record.extra).items():
        if metric.stderr is not None and metric.stderr < 0:
            yield f"{short(name)}: a standard error of {metric.stderr}, below 0"


def task_versions(record: Record) -> dict[str, str]:
    """Tasks that give a record's metrics, with their versions in this installation."""
    stage = record.cell.training.stage
    tasks = [f"muse_{metric}" for metric in METRICS]
    return {
        task: _task_version(task)
        for task in tasks + ([f"muse_{stage.suite}_{stage.number}"] if stage else [])
    }


@cache
def _task_version(task: str) -> str:
    """Read the version in a task's YAML, or in the one that it includes; no function is loaded."""
    content = yaml.load((TASKS / f"{task}.yaml").read_bytes(), Loader=_TaskLoader)
    if "metadata" in content:
        return str(content["metadata"]["version"])
    return _task_version(content["include"].removesuffix(".yaml"))


class _TaskLoader(yaml.SafeLoader):
    """Loader of task YAMLs that reads the name of a function as None."""


_TaskLoader.add_constructor("!function", lambda *_: None)
