"""Checks of the answers beside a submitted record, and of its metrics in view of them."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache

from pydantic import ValidationError

from harness_tasks import scoring
from harness_tasks.corpora import PUBLISHED

from ..config import Evaluation
from ..evaluation.evaluate import subset_indices
from ..reading.untrusted_files import Unsafe
from ..reading.untrusted_values import read_json
from ..records import samples
from ..records.samples import SHOWN, Sample
from ..records.schema import (
    METRICS,
    ExampleScores,
    Metric,
    Record,
)
from ..standings.estimates import Estimate, measured_metric
from .record_checks import MOST_ANSWERS, TOLERANCE, first_error

MOST_WORDS = 512
"""Largest number of words in a response or reference, which 128 tokens never reach."""
PUBLISHED_SIZES = {"verbmem": 100, "knowmem": 100, "privleak": 200, "utility": 100}
WORD = re.compile("[a-z0-9]+")


def read_answers(content: bytes) -> list[Sample]:
    """Read the answers from the lines of their file.

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
    for task, count in Counter(answer.task for answer in found).items():
        if count > MOST_ANSWERS:
            raise Unsafe(f"{task}: more than {MOST_ANSWERS} answers")
    return found


def answer_problems(record: Record, answers: Sequence[Sample]) -> Iterator[str]:
    """Check the answers of a record, and its examples and metrics against them."""
    tasks: dict[str, list[Sample]] = defaultdict(list)
    for answer in answers:
        tasks[answer.task].append(answer)
    wrong = [problem for members in tasks.values() for problem in _shape_problems(members)]
    yield from wrong
    for task, members in tasks.items():
        yield from _example_problems(record, task, [answer.example for answer in members])
    if wrong:
        return
    if samples.example_scores(answers) != record.examples:
        yield "examples: not the scores of the answers"
    for task in METRICS:
        yield from _score_problems(record, task, tasks[task])


def _shape_problems(answers: Iterable[Sample]) -> Iterator[str]:
    """Check that an answer has the fields of its task, and a length that can be compared."""
    for answer in answers:
        place = f"{answer.task} {answer.example}"
        texts = (answer.prompt, answer.response, answer.reference)
        generated = answer.task != "privleak"
        given = [text is not None for text in texts] + [answer.split is None]
        if any(has is not generated for has in given):
            yield f"{place}: not the fields that an answer to this task has"
        elif any(len(WORD.findall((text or "").lower())) > MOST_WORDS for text in texts):
            yield f"{place}: more than {MOST_WORDS} words"
        elif generated and len(answer.prompt or "") > SHOWN:
            yield f"{place}: more than {SHOWN} characters of the prompt"
        elif generated and not math.isfinite(answer.score):
            yield f"{place}: a score of {answer.score}"


def _example_problems(record: Record, task: str, examples: list[int]) -> Iterator[str]:
    """Compare the examples with those that the cell's subset and limit choose."""
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
    """Compare a metric, and the scores of its answers, with what the answers give."""
    recorded = record.metrics.get(task)
    value = samples.recompute(answers, record.provenance.retrain_auc).get(task)
    if recorded is None or value is None:
        if (recorded is None) != (value is None):
            yield f"metrics.{task}: {'missing' if recorded is None else 'no answers give it'}"
        return
    if not is_close(recorded.value, value):
        yield f"metrics.{task}: {recorded.value}, the answers give {value}"
    if task == "privleak":  # its error needs the retrained model's scores: see benchmark_checks
        return
    yield from metric_problems(task, recorded, value, record.examples, None)
    for answer in answers:
        score = 100 * _rouge_l(answer.response or "", answer.reference or "")
        if not is_close(answer.score, score):
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
        recorded: the metric as the record has it.
        value: its value.
        examples: scores of the single examples.
        zero: AUC of the retrained model, for PrivLeak.
    """
    expected = measured_metric(task, value, examples, zero)
    for name in ("stderr", "low", "high"):
        claimed, found = getattr(recorded, name), getattr(expected, name)
        # PrivLeak's zero is measured a second time, where near-ties may change places
        allowed = max(1e-3, 0.05 * abs(found or 0)) if task == "privleak" else TOLERANCE
        if not is_close(claimed, found, allowed):
            yield f"metrics.{task}.{name}: {claimed}, the answers give {found}"


def is_close(one: float | None, other: float | None, tolerance: float = TOLERANCE) -> bool:
    """Compare two numbers that may be missing.

    Args:
        one: number or None.
        other: number or None.
        tolerance: largest absolute difference.

    Returns:
        True if both are None, or both are numbers within the tolerance.
    """
    if one is None or other is None:
        return one is other
    return abs(one - other) <= tolerance
