"""Answers of a model, example by example, one file per cell.

``samples/<cell>.jsonl.gz`` holds one JSON object per line; its record has the SHA-256 of the
lines. The four scores can be computed from them again.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import math
import zlib
from collections.abc import Iterable, Mapping
from statistics import fmean
from typing import Any, Literal

from pydantic import ConfigDict

from harness_tasks import scoring

from .schema import METRICS, ExampleScores, Frozen

SIDES = ("forget", "holdout")
SHOWN = 400
"""Characters of a prompt that are kept, from its end."""
MOST_BYTES = 2**26
"""Largest size of a file of answers, uncompressed, in bytes."""


class Sample(Frozen):
    """One example of a task.

    Attributes:
        task: The metric it counts for.
        example: Its position among the task's examples.
        document: The document that it is about, where the corpus names one.
        prompt: End of the prompt, or the question; None if nothing is generated.
        response: Generated text, cut at the stop strings.
        reference: Text that the response is compared with.
        split: ``forget`` or ``holdout``, for PrivLeak.
        score: ROUGE-L × 100, or the text's Min-40% score.
    """

    model_config = ConfigDict(ser_json_inf_nan="strings")

    task: Literal["verbmem", "knowmem", "privleak", "utility"]
    example: int
    document: str | None = None
    prompt: str | None = None
    response: str | None = None
    reference: str | None = None
    split: Literal["forget", "holdout"] | None = None
    score: float


def from_lm_eval(task: str, logged: Mapping[str, Any], generation: Mapping[str, Any]) -> Sample:
    """Make a sample from lm-eval's log of one document.

    Args:
        task: The metric.
        logged: The entry of lm-eval's ``samples``.
        generation: The task's ``generation_kwargs``, for its stop strings.
    """
    doc, responses = logged["doc"], [given[0] for given in logged["resps"]]
    if task == "privleak":
        membership = logged[task]
        return Sample(
            task=task,  # type: ignore[arg-type]
            example=logged["doc_id"],
            split=membership.split,
            score=membership.score,
        )
    prompt = doc.get("question") or doc["prompt"]
    return Sample(
        task=task,  # type: ignore[arg-type]
        example=logged["doc_id"],
        document=doc.get("document"),
        prompt=prompt[-SHOWN:],
        response=scoring.cut_at(responses[0], generation["until"]),
        reference=responses[2] if len(responses) > 2 else logged["target"],
        score=logged[task],
    )


def example_scores(samples: Iterable[Sample]) -> dict[str, ExampleScores]:
    """Scores of the examples by task, PrivLeak's by side, without text.

    Documents are kept where several examples of a task share one.
    """
    groups: dict[str, list[Sample]] = {}
    for sample in sorted(samples, key=lambda s: (METRICS.index(s.task), s.split or "", s.example)):
        name = f"{sample.task}/{sample.split}" if sample.split else sample.task
        groups.setdefault(name, []).append(sample)
    found = {}
    for name, members in groups.items():
        documents = [sample.document for sample in members if sample.document is not None]
        shared = len({*documents}) < len(documents) == len(members)
        found[name] = ExampleScores(
            examples=tuple(sample.example for sample in members),
            scores=tuple(
                round(sample.score, 6) if math.isfinite(sample.score) else None
                for sample in members
            ),
            documents=tuple(documents) if shared else None,
        )
    return found


def encode(samples: Iterable[Sample]) -> bytes:
    """Encode samples as lines of JSON."""
    return "".join(sample.model_dump_json(exclude_none=True) + "\n" for sample in samples).encode()


def decode(lines: bytes) -> list[Sample]:
    """Decode samples from lines of JSON.

    Raises:
        pydantic.ValidationError: A line is not a sample.
    """
    return [Sample.model_validate_json(line) for line in lines.splitlines()]


def compress(lines: bytes) -> bytes:
    """Compress lines; without a time stamp, so that equal lines give equal files."""
    return gzip.compress(lines, mtime=0)


def decompress(content: bytes) -> bytes:
    """Decompress lines, at most ``MOST_BYTES``.

    Raises:
        ValueError: Not gzip, cut short, or larger than answers can be.
    """
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
            lines = file.read(MOST_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"not a whole gzip file: {error}") from error
    if len(lines) > MOST_BYTES:
        raise ValueError(f"holds more than {MOST_BYTES} bytes")
    return lines


def sha256(lines: bytes) -> str:
    """SHA-256 of a file's lines, which the record keeps."""
    return hashlib.sha256(lines).hexdigest()


def recompute(samples: Iterable[Sample], retrain_auc: float | None) -> dict[str, float]:
    """Compute the metrics × 100 from responses, references and Min-40% scores.

    A metric that is not a number, or lacks examples, is missing.
    """
    groups: dict[str, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(sample.task, []).append(sample)
    metrics = {}
    for task, members in groups.items():
        if task != "privleak":
            metrics[task] = 100 * fmean(
                scoring.rouge_l(sample.response or "", sample.reference or "") for sample in members
            )
            continue
        scores = {
            split: [sample.score for sample in members if sample.split == split]
            for split in ("holdout", "forget")
        }
        known = all(scores.values()) and not any(math.isnan(s.score) for s in members)
        if retrain_auc and known:
            auc, _ = scoring.auc_and_stderr(scores["holdout"], scores["forget"])
            metrics[task] = scoring.privleak(auc, retrain_auc)
    return metrics
