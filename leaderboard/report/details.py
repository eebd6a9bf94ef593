"""Details of a row of the page: scores by seed, settings, provenance and some answers.

Details are sections. Each has a title and one kind of content, all of it text:

    {"title": …, "remarks": [text]}
    {"title": …, "facts": [[label, text]]}
    {"title": …, "table": [header, line, …]}
    {"title": …, "answers": [{"prompt", "reference", "response", "score"}]}

A ``note`` explains the content; ``across`` takes the whole width.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..reading.escaping import visible
from ..records.samples import Sample
from ..records.schema import Record, Seconds
from ..records.store import read_samples
from ..standings.grouping import evaluation, finite
from ..standings.published import Reported
from ..standings.table import Row
from .columns import (
    COLUMNS,
    DEFINITIONS,
    DID_NOT_FORGET,
    MISSING,
    REPORTED,
    Column,
    number_text,
    value_text,
)
from .survival import EXPLANATION, NUMBERS, numbers, row_survival

Section = dict[str, Any]

SHOWN_ANSWERS = 3
SHOWN_PROMPT, SHOWN_ANSWER = 160, 500
"""Maximum characters of a prompt, taken from its end, and of an answer or reference."""
TASKS = {"verbmem": "VerbMem", "knowmem": "KnowMem"}


def row_details(row: Row, folder: Path) -> list[Section]:
    """Make the sections of a measured row; sections without content are left out.

    Args:
        row: Row of the table.
        folder: Folder of the run, with the answers.

    Raises:
        InputError: The answers are damaged or belong to another record.
    """
    first = row.records[0]
    cell, training, run = first.cell, first.cell.training, first.provenance.training
    remarks = [f"{DID_NOT_FORGET} {DEFINITIONS[DID_NOT_FORGET]}"] if row.forgot is False else []
    sections: list[Section] = [
        {"title": "", "remarks": [*remarks, *(visible(note) for note in row.notes)]},
        {"title": "Scores", "table": _scores(row)},
        {"title": "Other tasks", "table": _extra(row)},
        *_update(row),
        *_answers(read_samples(folder, first)),
        _facts("Method", {"name": row.method} | training.params),
        _facts("Finetuning", {"name": row.finetuning} | training.finetuning_params),
        _facts("Training", {k: v for k, v in training.settings.items() if k != "seed"}),
        _facts("Quantizer", {"name": cell.quantizer} | cell.quantizer_params),
        _facts("Calibration", first.calibration or {}),
        _facts("Evaluation", evaluation(cell)),
        _facts("Corpus", training.corpus.model_dump()),
        _facts(
            "Model before unlearning",
            training.model.model_dump() | {"loaded in": training.dtype},
        ),
        _facts("Generation settings, ignored", first.generation_config or {}),
        _facts("Tokenizer", training.tokenizer.model_dump() if training.tokenizer else {}),
        _facts("Training run", run.model_dump() if run else {}),
        _facts("Packages", first.provenance.packages),
        _facts("Versions of tasks", first.provenance.tasks),
        {"title": "Runs", "table": _runs(row.records), "across": True},
    ]
    return [section for section in sections if list(section.values())[1]]


def reported_details(row: Reported) -> list[Section]:
    """Make the sections of a published row."""
    facts = row.model_dump(exclude_none=True, exclude={"corpus", "method", "precision"})
    return [{"title": "", "remarks": [f"Reported: {REPORTED}"]}, _facts("As reported", facts)]


def _facts(title: str, facts: Mapping[str, Any]) -> Section:
    return {
        "title": title,
        "facts": [[visible(label), _text(value)] for label, value in facts.items()],
    }


def _text(value: Any) -> str:
    """Format a setting: a string as it is, anything else as JSON."""
    if value is None:
        return MISSING
    return visible(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _scores(row: Row) -> list[list[str]]:
    """Table of all numbers of the row, and of the metrics of each seed."""
    several = row.seeds > 1
    seeds = row.records if several else ()
    names = [f"seed {record.cell.training.seed}" for record in seeds]
    lines = [["", "all seeds" if several else "score", *names]]
    for column in COLUMNS:
        total = value_text(row.values.get(column.key), column.digits, column.signed)
        by_seed = [_seed_text(record, column) for record in seeds]
        if total != MISSING or any(by_seed):
            lines.append([column.title, total, *by_seed])
    return lines if len(lines) > 1 else []


def _seed_text(record: Record, column: Column) -> str:
    """Metric of one seed; empty for numbers that are derived from several records."""
    value = finite(record.metrics).get(column.key)
    return "" if value is None else number_text(value, column.digits)


def _extra(row: Row) -> list[list[str]]:
    lines = [[visible(task), value_text(value, digits=3)] for task, value in row.extra.items()]
    return [["", "score"], *lines] if lines else []


def _update(row: Row) -> list[Section]:
    """Size of the update, and the share of it that this precision keeps."""
    survival = row_survival(row)
    if survival is None:
        return []
    facts = [[label, text] for label, text in zip(NUMBERS, numbers(row, survival), strict=True)]
    return [{"title": "Update and rounding", "facts": facts, "note": EXPLANATION}]


def _answers(samples: Sequence[Sample]) -> list[Section]:
    """Sections of the most remembered and most forgotten answers of VerbMem and KnowMem."""
    sections = []
    for task, name in TASKS.items():
        members = sorted(
            (sample for sample in samples if sample.task == task and math.isfinite(sample.score)),
            key=lambda sample: (-sample.score, sample.example),
        )
        best = members[:SHOWN_ANSWERS]
        worst = members[SHOWN_ANSWERS:][::-1][:SHOWN_ANSWERS]
        for title, chosen in (("most remembered", best), ("most forgotten", worst)):
            answers = [_answer(sample) for sample in chosen]
            sections.append({"title": f"{name}, {title}", "answers": answers})
    return sections


def _answer(sample: Sample) -> dict[str, str]:
    prompt = sample.prompt or ""
    cut = "…" if len(prompt) > SHOWN_PROMPT else ""
    return {
        "prompt": cut + _sample_text(prompt[-SHOWN_PROMPT:]),
        "reference": _start(sample.reference or ""),
        "response": _start(sample.response or ""),
        "score": number_text(sample.score),
    }


def _start(text: str) -> str:
    return _sample_text(text[:SHOWN_ANSWER]) + ("…" if len(text) > SHOWN_ANSWER else "")


def _sample_text(text: str) -> str:
    return visible(text, keep="\n\t")


def _runs(records: Sequence[Record]) -> list[list[str]]:
    """Table of device, time and duration, a column per seed."""
    columns = [_run(record) for record in records]
    header = ["", *(f"seed {record.cell.training.seed}" for record in records)]
    return [header, *([label, *(column[label] for column in columns)] for label in columns[0])]


def _run(record: Record) -> dict[str, str]:
    provenance = record.provenance
    seconds = provenance.seconds.model_dump() if provenance.seconds else {}
    facts = {
        "status": record.status,
        "created": provenance.created,
        "device": provenance.device,
        "threads": provenance.threads,
        "peak memory of the process (MiB)": provenance.peak_rss_mib,
        **{f"{part} (s)": seconds.get(part) for part in Seconds.model_fields},
        "retrain AUC": provenance.retrain_auc,
        "its standard error": provenance.retrain_auc_stderr,
        "code": provenance.git,
        "Python": provenance.python,
        "platform": provenance.platform,
        "record": f"{record.cell.stem}.json",
    }
    return {
        label: f"{value:.4g}" if isinstance(value, float) else _text(value)
        for label, value in facts.items()
    }
