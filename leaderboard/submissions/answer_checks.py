"""Checks of the answers of a submitted record, and of its metrics against them."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from harness_tasks import scoring
from harness_tasks.corpora import PUBLISHED

from ..config import Evaluation
from ..evaluation.evaluate import subset_indices
from ..reading.untrusted_files import Unsafe
from ..reading.untrusted_values import read_json
from ..records import samples
from ..records.samples import SHOWN, Sample
from ..records.schema import METRICS, ExampleScores, Metric, Record
from ..standings.estimates import Estimate, measured_metric
from .record_checks import MAX_ANSWERS, TOLERANCE, parse_model

MAX_WORDS = 512
"""Largest number of words in a response or reference; 128 tokens never reach it."""
PUBLISHED_SIZES = {"verbmem": 100, "knowmem": 100, "privleak": 200, "utility": 100}
"""Number of examples of each task on MUSE-News and MUSE-Books."""
WORD = re.compile("[a-z0-9]+")


def read_answers(content: bytes) -> list[Sample]:
    """Read answers from the lines of their file.

    Raises:
        Unsafe: a line is not an answer as lm-eval-muse writes it, or there are too many.
    """
    lines = content.splitlines()
    if len(lines) > (limit := MAX_ANSWERS * len(METRICS)):
        raise Unsafe(f"more than {limit} lines")
    answers = []
    for number, line in enumerate(lines, 1):
        try:
            answer = parse_model(Sample, read_json(line, any_text=True))
        except Unsafe as error:
            raise Unsafe(f"line {number}: {error}") from error
        if samples.encode([answer]) != line + b"\n":
            raise Unsafe(f"line {number}: not formatted as lm-eval-muse writes answers")
        answers.append(answer)
    for task, count in Counter(answer.task for answer in answers).items():
        if count > MAX_ANSWERS:
            raise Unsafe(f"{task}: more than {MAX_ANSWERS} answers")
    return answers


def answer_problems(record: Record, answers: Sequence[Sample]) -> Iterator[str]:
    """Check the answers of a record, and its examples and metrics against them.

    Args:
        record: the record.
        answers: its answers, in the order of their file.

    Yields:
        One line per problem.
    """
    tasks: dict[str, list[Sample]] = defaultdict(list)
    for answer in answers:
        tasks[answer.task].append(answer)
    field_problems = list(_field_problems(answers))
    yield from field_problems
    for task, members in tasks.items():
        yield from _example_problems(record, task, [answer.example for answer in members])
    if field_problems:
        return
    if samples.example_scores(answers) != record.examples:
        yield "examples: not the scores of the answers"
    for task in METRICS:
        yield from _score_problems(record, task, tasks[task])


def _field_problems(answers: Iterable[Sample]) -> Iterator[str]:
    """Check that answers have the fields of their task, of a length that can be compared."""
    for answer in answers:
        name = f"{answer.task} {answer.example}"
        texts = (answer.prompt, answer.response, answer.reference)
        generated = answer.task != "privleak"
        present = [text is not None for text in texts] + [answer.split is None]
        if any(is_present is not generated for is_present in present):
            yield f"{name}: fields do not match the task"
        elif any(len(WORD.findall((text or "").lower())) > MAX_WORDS for text in texts):
            yield f"{name}: more than {MAX_WORDS} words"
        elif generated and len(answer.prompt or "") > SHOWN:
            yield f"{name}: more than {SHOWN} characters of the prompt"
        elif generated and not math.isfinite(answer.score):
            yield f"{name}: score {answer.score}, expected a finite number"


def _example_problems(record: Record, task: str, examples: list[int]) -> Iterator[str]:
    """Compare the examples with those that the cell's subset and limit select."""
    settings = Evaluation(subset=record.cell.subset, limit=record.cell.limit)
    size = max(examples) + 1
    if record.cell.training.corpus.name in PUBLISHED:
        size = PUBLISHED_SIZES[task]
    if size > MAX_ANSWERS or examples != subset_indices(size, settings):
        yield (
            f"{task}: the examples are not those of subset {record.cell.subset} and limit "
            f"{record.cell.limit}, in order"
        )


def _score_problems(record: Record, task: str, answers: list[Sample]) -> Iterator[str]:
    """Compare a metric, and the scores of its answers, with recomputed ones."""
    metric = record.metrics.get(task)
    value = samples.recompute(answers, record.provenance.retrain_auc).get(task)
    if metric is None or value is None:
        if metric is not None:
            yield f"metrics.{task}: the answers give no value"
        elif value is not None:
            yield f"metrics.{task}: missing"
        return
    if not is_close(metric.value, value):
        yield f"metrics.{task}: {metric.value}, the answers give {value}"
    if task == "privleak":  # its error needs the retrained model's scores: see benchmark_checks
        return
    yield from error_problems(task, metric, value, record.examples, None)
    for answer in answers:
        score = 100 * _rouge_l(answer.response or "", answer.reference or "")
        if not is_close(answer.score, score):
            yield f"{task} {answer.example}: score {answer.score}, ROUGE-L gives {score}"


_rouge_l = lru_cache(maxsize=2**14)(scoring.rouge_l)


def error_problems(
    task: str,
    metric: Metric,
    value: float,
    examples: Mapping[str, ExampleScores],
    zero: Estimate | None,
) -> Iterator[str]:
    """Compare the standard error and interval of a metric with those of its examples.

    Args:
        task: name of the metric.
        metric: the recorded metric.
        value: value of the metric, × 100.
        examples: scores of the single examples, by metric.
        zero: AUC of the retrained model, for PrivLeak.

    Yields:
        One line per difference.
    """
    expected = measured_metric(task, value, examples, zero)
    for name in ("stderr", "low", "high"):
        recorded, computed = getattr(metric, name), getattr(expected, name)
        # PrivLeak's zero is a second measurement, in which near-ties may be ordered differently
        tolerance = max(1e-3, 0.05 * abs(computed or 0)) if task == "privleak" else TOLERANCE
        if not is_close(recorded, computed, tolerance):
            yield f"metrics.{task}.{name}: {recorded}, the answers give {computed}"


def question_problems(
    record: Record, answers: Iterable[Sample], path: str, first_seen: dict[Any, tuple[Any, str]]
) -> Iterator[str]:
    """Compare the questions of a cell with those of earlier cells of its corpus.

    Args:
        record: record of the cell.
        answers: its answers.
        path: path of their file.
        first_seen: questions of the earlier cells with the path of their file; updated.

    Yields:
        One line per difference.
    """
    corpus = record.cell.training.corpus.name
    examples: dict[str, list[int]] = defaultdict(list)
    for answer in answers:
        examples[answer.task].append(answer.example)
        question = json.dumps([answer.prompt, answer.reference, answer.split])
        question_hash = hashlib.sha256(question.encode()).digest()
        key = (corpus, answer.task, answer.example)
        first, first_path = first_seen.setdefault(key, (question_hash, path))
        if first != question_hash:
            yield f"{answer.task} {answer.example}: question or reference differs from {first_path}"
    for task, numbers in examples.items():
        first, first_path = first_seen.setdefault((corpus, task), (numbers, path))
        if first != numbers:
            yield f"{task}: examples differ from {first_path}"


def is_close(first: float | None, second: float | None, tolerance: float = TOLERANCE) -> bool:
    """Compare two numbers that may be missing.

    Args:
        first: number or None.
        second: number or None.
        tolerance: largest absolute difference.

    Returns:
        True if both are None, or both are numbers within the tolerance.
    """
    if first is None or second is None:
        return first is second
    return abs(first - second) <= tolerance
