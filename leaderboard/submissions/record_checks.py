"""What one submitted record, and the answers beside it, must hold; nothing of it is trusted."""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache, lru_cache

import yaml
from pydantic import ValidationError

from harness_tasks import scoring, sealed
from harness_tasks.corpora import PUBLISHED

from .. import samples
from ..config import Evaluation
from ..estimates import Estimate, measured_metric
from ..evaluation import TASKS, subset_indices
from ..records.schema import (
    METRICS,
    SCHEMA_VERSION,
    SUITE_METRICS,
    ExampleScores,
    Metric,
    Record,
)
from ..records.version1 import BITS
from ..samples import SHOWN, Sample
from .manifest import FILE_NAME, METHOD_NAME
from .plain_values import read_json
from .safe_read import Unsafe, short

TOLERANCE = 2e-6
MOST_ANSWERS = 4_000
"""To one task."""
MOST_WORDS = 512
"""Of a response or reference: far more than 128 tokens hold, and few enough to compare."""
PUBLISHED_SIZES = {"verbmem": 100, "knowmem": 100, "privleak": 200, "utility": 100}
WORD = re.compile("[a-z0-9]+")


def read_record(content: bytes) -> Record:
    """A record from the bytes of its file.

    Raises:
        Unsafe: not one of this version; the message says where in it.
    """
    value = read_json(content)
    version = value.get("schema_version", 1) if isinstance(value, dict) else SCHEMA_VERSION
    if version != SCHEMA_VERSION:
        raise Unsafe(
            f"schema_version: {short(str(version))}, expected {SCHEMA_VERSION}: run the grid again"
        )
    try:
        record = Record.model_validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        raise Unsafe(first_error(error)) from error
    if sealed.is_damaged(value):
        raise Unsafe(f"{sealed.SEAL}: not that of the rest: the record is not as it was written")
    return record


def first_error(error: ValidationError) -> str:
    """Place and message of the first thing pydantic found."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = short(".".join(map(str, first["loc"]))) or "top level"
    return f"{place}: {first['msg']}"


def record_problems(record: Record) -> Iterator[str]:
    """What is wrong with a record by itself."""
    cell, training = record.cell, record.cell.training
    known = BITS | {"none": None, "bf16": 16}
    if cell.quantizer in known and record.bits != known[cell.quantizer]:
        yield f"bits: {record.bits}, {cell.quantizer} has {known[cell.quantizer]}"
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
        if record.metrics or record.extra or record.samples:
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


def read_answers(content: bytes) -> list[Sample]:
    """The answers from the lines of their file.

    Raises:
        Unsafe: a line is not an answer as lm-eval-muse writes it.
    """
    lines = content.splitlines()
    if len(lines) > (most := MOST_ANSWERS * len(METRICS)):
        raise Unsafe(f"more than {most} lines")
    found = []
    for number, line in enumerate(lines, 1):
        try:
            answer = Sample.model_validate(read_json(line, any_text=True))
        except ValidationError as error:
            raise Unsafe(f"line {number}: {first_error(error)}") from error
        except Unsafe as error:
            raise Unsafe(f"line {number}: {error}") from error
        if samples.encode([answer]) != line + b"\n":
            raise Unsafe(f"line {number}: not as lm-eval-muse writes an answer")
        found.append(answer)
    return found


def answer_problems(record: Record, answers: Sequence[Sample]) -> Iterator[str]:
    """What is wrong with the answers of a record, or with its metrics in view of them."""
    tasks: dict[str, list[Sample]] = defaultdict(list)
    for answer in answers:
        tasks[answer.task].append(answer)
    wrong = [problem for members in tasks.values() for problem in _shape_problems(members)]
    yield from wrong
    for task, members in tasks.items():
        yield from _example_problems(record, task, [answer.example for answer in members])
    if not wrong:
        if samples.example_scores(answers) != record.examples:
            yield "examples: not the scores of the answers"
        for task in METRICS:
            yield from _score_problems(record, task, tasks[task])


def _shape_problems(answers: Iterable[Sample]) -> Iterator[str]:
    """Whether every answer has what its task gives, and is of a length that can be compared."""
    for answer in answers:
        place = f"{answer.task} {answer.example}"
        texts = (answer.prompt, answer.response, answer.reference)
        generated = answer.task != "privleak"
        given = [text is not None for text in texts] + [answer.split is None]
        if any(has is not generated for has in given):
            yield f"{place}: has not what an answer of this task has"
        elif any(len(WORD.findall((text or "").lower())) > MOST_WORDS for text in texts):
            yield f"{place}: more than {MOST_WORDS} words"
        elif generated and len(answer.prompt or "") > SHOWN:
            yield f"{place}: more than {SHOWN} characters of the prompt"
        elif generated and not math.isfinite(answer.score):
            yield f"{place}: a score of {answer.score}"


def _example_problems(record: Record, task: str, examples: list[int]) -> Iterator[str]:
    """Whether these are the examples that the cell's subset and limit choose."""
    settings = Evaluation(subset=record.cell.subset, limit=record.cell.limit)
    size = max(examples) + 1
    if record.cell.training.corpus.name in PUBLISHED:
        size = PUBLISHED_SIZES[task]
    if size > MOST_ANSWERS or examples != subset_indices(size, settings):
        yield (
            f"{task}: the examples are not those that subset {record.cell.subset} and limit "
            f"{record.cell.limit} choose, in their order"
        )


def _score_problems(record: Record, task: str, answers: list[Sample]) -> Iterator[str]:
    recorded = record.metrics.get(task)
    value = samples.recompute(answers, record.provenance.retrain_auc).get(task)
    if recorded is None or value is None:
        if (recorded is None) != (value is None):
            yield f"metrics.{task}: {'missing' if recorded is None else 'no answers give it'}"
        return
    if not _close(recorded.value, value):
        yield f"metrics.{task}: {recorded.value}, the answers give {value}"
    if task != "privleak":  # whose error takes the retrained model's scores, see grid_checks
        yield from metric_problems(task, recorded, value, record.examples, None)
    if task != "privleak":
        for answer in answers:
            score = 100 * _rouge_l(answer.response or "", answer.reference or "")
            if not _close(answer.score, score):
                yield f"{task} {answer.example}: a score of {answer.score}, ROUGE-L gives {score}"


_rouge_l = lru_cache(maxsize=2**14)(scoring.rouge_l)


def metric_problems(
    task: str,
    recorded: Metric,
    value: float,
    examples: Mapping[str, ExampleScores],
    zero: Estimate | None,
) -> Iterator[str]:
    """Compare the error of a recorded metric with the one that its examples give.

    Args:
        task: the metric.
        recorded: as the record has it.
        value: its value.
        examples: scores of the single examples.
        zero: AUC of the retrained model, for PrivLeak.
    """
    expected = measured_metric(task, value, examples, zero)
    for name in ("stderr", "low", "high"):
        claimed, found = getattr(recorded, name), getattr(expected, name)
        # the retrained model's scores are measured twice, and near-ties may fall either way
        allowed = max(1e-3, 0.05 * abs(found or 0) if task == "privleak" else 0)
        if not _close(claimed, found, allowed):
            yield f"metrics.{task}.{name}: {claimed}, the answers give {found}"


def _close(one: float | None, other: float | None, tolerance: float = TOLERANCE) -> bool:
    if one is None or other is None:
        return one is other
    return abs(one - other) <= tolerance


def task_versions(record: Record) -> dict[str, str]:
    """The tasks that give a record's metrics, and their versions in this installation."""
    stage = record.cell.training.stage
    tasks = [f"muse_{metric}" for metric in METRICS]
    return {
        task: _task_version(task)
        for task in tasks + ([f"muse_{stage.suite}_{stage.number}"] if stage else [])
    }


@cache
def _task_version(task: str) -> str:
    """From the task's YAML and those it includes, whose functions are left alone."""
    content = yaml.load((TASKS / f"{task}.yaml").read_bytes(), Loader=_TaskLoader)
    if "metadata" in content:
        return str(content["metadata"]["version"])
    return _task_version(content["include"].removesuffix(".yaml"))


class _TaskLoader(yaml.SafeLoader):
    """For task YAMLs: what stands for a function is None."""


_TaskLoader.add_constructor("!function", lambda *_: None)
