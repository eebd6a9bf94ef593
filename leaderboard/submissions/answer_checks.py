"""Checks of the answers of a submitted record, and of its metrics against them."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache

from harness_tasks import scoring
from harness_tasks.corpora import PUBLISHED

from ..config import Evaluation
from ..evaluation.evaluate import subset_indices
from ..reading.untrusted_files import UnsafeError
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

Question = tuple[int, str | None, str | None, str | None]
"""Example, prompt, reference and split of an answer."""
FirstAsked = dict[tuple[str, str], tuple[list[Question], str]]
"""Questions of the first cell of each corpus and task, with the path of its answers."""


def read_answers(content: bytes) -> list[Sample]:
    """Read answers from the lines of their file.

    Raises:
        UnsafeError: A line is not an answer as lm-eval-muse writes it, or there are too many.
    """
    lines = content.splitlines()
    if len(lines) > (limit := MAX_ANSWERS * len(METRICS)):
        raise UnsafeError(f"more than {limit} lines")
    answers = []
    for number, line in enumerate(lines, 1):
        try:
            answer = parse_model(Sample, read_json(line, any_text=True))
        except UnsafeError as error:
            raise UnsafeError(f"line {number}: {error}") from error
        if samples.encode([answer]) != line + b"\n":
            raise UnsafeError(f"line {number}: not formatted as lm-eval-muse writes answers")
        answers.append(answer)
    for task, count in Counter(answer.task for answer in answers).items():
        if count > MAX_ANSWERS:
            raise UnsafeError(f"{task}: more than {MAX_ANSWERS} answers")
    return answers


def answer_problems(record: Record, answers: Sequence[Sample]) -> Iterator[str]:
    """Check the answers of a record, and its examples and metrics against them.

    Args:
        record: The record.
        answers: Its answers, in the order of their file.

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
        task: Name of the metric.
        metric: The recorded metric.
        value: Value of the metric, × 100.
        examples: Scores of the single examples, by metric.
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
    record: Record, answers: Iterable[Sample], path: str, first_asked: FirstAsked
) -> Iterator[str]:
    """Compare the questions of a cell with those of the first cell of its corpus.

    Args:
        record: Record of the cell.
        answers: Its answers.
        path: Path of their file.
        first_asked: Questions of the cells checked before; those of a new corpus are added.

    Yields:
        One line per difference.
    """
    questions: dict[str, list[Question]] = defaultdict(list)
    for answer in answers:
        question = (answer.example, answer.prompt, answer.reference, answer.split)
        questions[answer.task].append(question)
    for task, asked in questions.items():
        key = (record.cell.training.corpus.name, task)
        expected, expected_path = first_asked.setdefault(key, (asked, path))
        if [question[0] for question in asked] != [question[0] for question in expected]:
            yield f"{task}: examples differ from {expected_path}"
            continue
        for question_asked, question_expected in zip(asked, expected, strict=True):
            if question_asked != question_expected:
                example = question_asked[0]
                yield f"{task} {example}: question or reference differs from {expected_path}"


def is_close(first: float | None, second: float | None, tolerance: float = TOLERANCE) -> bool:
    """Compare two numbers that may be missing.

    Args:
        first: Number or None.
        second: Number or None.
        tolerance: Largest absolute difference.

    Returns:
        True if both are None, or both are numbers within the tolerance.
    """
    if first is None or second is None:
        return first is second
    return abs(first - second) <= tolerance
