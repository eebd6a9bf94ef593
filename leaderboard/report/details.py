"""Details of a row of the page: its scores by seed, settings, provenance and some answers.

Details are sections, each with a title and one kind of content, all of it text:

    {"title": …, "remarks": [text]}
    {"title": …, "facts": [[label, text]]}
    {"title": …, "table": [header, line, …]}
    {"title": …, "answers": [{"prompt", "reference", "response", "score"}]}

A ``note`` explains the content; ``across`` asks for the whole width.
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
from .survival import (
    EXPLANATION,
    NUMBERS,
    numbers,
    row_survival,
)

Section = dict[str, Any]

SHOWN_ANSWERS = 3
SHOWN_PROMPT, SHOWN_ANSWER = 160, 500
"""Characters of a prompt, from its end, and of an answer and its reference."""
TASKS = {"verbmem": "VerbMem", "knowmem": "KnowMem"}


def row_details(row: Row, folder: Path) -> list[Section]:
    """Sections of a measured row; those without content are left out.

    Args:
        row: of the table.
        folder: of the run, where answers lie beside the records.

    Raises:
        InputError: the answers, or the report of the update, are not what the record says.
    """
    first = row.records[0]
    cell, training, made = first.cell, first.cell.training, first.provenance
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
        _facts("Training run", made.training.model_dump() if made.training else {}),
        _facts("Packages", first.provenance.packages),
        _facts("Versions of tasks", first.provenance.tasks),
        {"title": "Runs", "table": _runs(row.records), "across": True},
    ]
    return [section for section in sections if list(section.values())[1]]


def reported_details(row: Reported) -> list[Section]:
    """Sections of a published row."""
    facts = row.model_dump(exclude_none=True, exclude={"corpus", "method", "precision"})
    return [{"title": "", "remarks": [f"Reported: {REPORTED}"]}, _facts("As reported", facts)]


def _facts(title: str, facts: Mapping[str, Any]) -> Section:
    return {
        "title": title,
        "facts": [[visible(label), _shown(value)] for label, value in facts.items()],
    }


def _shown(value: Any) -> str:
    """A setting as text: a string as it is, anything else as JSON."""
    if value is None:
        return MISSING
    return visible(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _scores(row: Row) -> list[list[str]]:
    """All numbers of the row, and the metrics of each seed."""
    several = row.seeds > 1
    seeds = row.records if several else ()
    names = [f"seed {record.cell.training.seed}" for record in seeds]
    lines = [["", "all seeds" if several else "score", *names]]
    for column in COLUMNS:
        total = value_text(row.values.get(column.key), column.digits, column.signed)
        single = [_of_seed(record, column) for record in seeds]
        if total != MISSING or any(single):
            lines.append([column.title, total, *single])
    return lines if len(lines) > 1 else []


def _of_seed(record: Record, column: Column) -> str:
    """A metric of one seed; nothing for what is derived from several records."""
    value = finite(record.metrics).get(column.key)
    return "" if value is None else number_text(value, column.digits)


def _extra(row: Row) -> list[list[str]]:
    lines = [[visible(task), value_text(value, digits=3)] for task, value in row.extra.items()]
    return [["", "score"], *lines] if lines else []


def _update(row: Row) -> list[Section]:
    """Size of the update, and what this precision keeps of it."""
    survival = row_survival(row)
    if survival is None:
        return []
    facts = [[label, text] for label, text in zip(NUMBERS, numbers(row, survival), strict=True)]
    return [{"title": "Update and rounding", "facts": facts, "note": EXPLANATION}]


def _answers(samples: Sequence[Sample]) -> list[Section]:
    """The best remembered and the best forgotten answers, for verbatim text and for questions."""
    sections = []
    for task, name in TASKS.items():
        members = sorted(
            (sample for sample in samples if sample.task == task and math.isfinite(sample.score)),
            key=lambda sample: (-sample.score, sample.example),
        )
        top = members[:SHOWN_ANSWERS]
        last = members[SHOWN_ANSWERS:][::-1][:SHOWN_ANSWERS]
        for title, shown in (("most remembered", top), ("most forgotten", last)):
            answers = [_answer(sample) for sample in shown]
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
    """Where, when and how long, a column per seed."""
    columns = [_run(record) for record in records]
    header = ["", *(f"seed {record.cell.training.seed}" for record in records)]
    return [header, *([label, *(column[label] for column in columns)] for label in columns[0])]


def _run(record: Record) -> dict[str, str]:
    made = record.provenance
    seconds = made.seconds.model_dump() if made.seconds else {}
    facts = {
        "status": record.status,
        "created": made.created,
        "device": made.device,
        "threads": made.threads,
        "peak memory of the process (MiB)": made.peak_rss_mib,
        **{f"{part} (s)": seconds.get(part) for part in Seconds.model_fields},
        "retrain AUC": made.retrain_auc,
        "its standard error": made.retrain_auc_stderr,
        "code": made.git,
        "Python": made.python,
        "platform": made.platform,
        "record": f"{record.cell.stem}.json",
    }
    return {
        label: f"{value:.4g}" if isinstance(value, float) else _shown(value)
        for label, value in facts.items()
    }
