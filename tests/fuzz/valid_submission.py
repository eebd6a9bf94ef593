"""A valid submission of three small records, the seeds of the fuzzed readers."""

from __future__ import annotations

import gzip
from hashlib import sha256
from importlib.metadata import version

import yaml

from harness_tasks import scoring
from leaderboard.config import Evaluation, RunConfig
from leaderboard.evaluation.evaluate import subset_indices
from leaderboard.records import samples
from leaderboard.records.samples import Sample
from leaderboard.records.schema import (
    METRICS,
    Cell,
    CorpusId,
    ModelId,
    Provenance,
    Record,
    RetrainAuc,
    Survival,
    Training,
)
from leaderboard.records.store import record_text
from leaderboard.records.survival import Update
from leaderboard.standings.estimates import Estimate, measured_metric, of_auc
from leaderboard.submissions.manifest import FileEntry, Manifest, Package
from leaderboard.submissions.record_checks import task_versions

SETTINGS = {"learning_rate": 0.002, "epochs": 10.0, "report_to": []}
CONFIG = RunConfig.model_validate(
    {
        "name": "fuzz",
        "corpora": ["demo"],
        "precisions": ["none"],
        "unlearn": [
            {
                "method": "npo_gdr",
                "finetuning": "lora",
                "params": {"beta": 0.1},
                "finetuning_params": {"rank": 16, "targets": "all-linear"},
                "training": SETTINGS,
            }
        ],
        "evaluation": {"subset": "test", "limit": 4},
    }
)
MIN_K = {"target": (0, 1, 3, 2), "retrain": (0, 1, 2, 3), "npo_gdr": (0, 2, 1, 3)}
"""Min-40% scores of two forget and two holdout texts, alternating."""
WORDS = "the clock of the harbour was made of brass and of glass".split()
CORPUS = CorpusId(
    name="demo",
    source="generated",
    revision=None,
    fingerprint="f" * 64,
    forget="raw/forget",
    retain="raw/retain1",
    max_documents=None,
)


def valid_submission() -> dict[str, bytes]:
    """Return the content of every file by its path."""
    answers = {method: _answers(method) for method in MIN_K}
    examples = samples.example_scores(answers["retrain"])
    zero = of_auc(examples["privleak/forget"], examples["privleak/holdout"])
    if zero is None:
        raise ValueError("the retrained model has no AUC")
    files = {
        "config.yaml": yaml.safe_dump(CONFIG.model_dump(mode="json")).encode(),
        "source/method.py": b"x = 1\n",
        "README.md": b"# A method\n",
    }
    package = Package(distribution="lm-eval-muse", version=version("lm-eval-muse"))
    files["source/package.json"] = package.model_dump_json().encode()
    stems = []
    for method, found in answers.items():
        lines = samples.encode(found)
        record = _record(method, found, zero).model_copy(update={"samples": samples.sha256(lines)})
        stems.append(stem := record.cell.stem)
        files[f"records/{stem}.json"] = record_text(record).encode()
        files[f"samples/{stem}.jsonl.gz"] = gzip.compress(lines, mtime=0)
    manifest = Manifest(
        format=1,
        method="npo_gdr",
        cells=sorted(stems),
        files={
            name: FileEntry(sha256=sha256(content).hexdigest(), bytes=len(content))
            for name, content in files.items()
        },
    )
    return files | {"manifest.json": manifest.model_dump_json().encode()}


def _answers(method: str) -> list[Sample]:
    """Make four answers to every task, of growing length; the target's are longer."""
    evaluation = Evaluation(subset="test", limit=4)
    found = []
    for task in METRICS:
        for number, example in enumerate(subset_indices(100, evaluation)):
            if task == "privleak":
                side = "holdout" if example % 2 else "forget"
                score = float(MIN_K[method][number])
                found.append(Sample(task=task, example=example, split=side, score=score))
                continue
            reference = " ".join(WORDS)
            response = " ".join(WORDS[: number + 2 * (method == "target")])
            score = 100 * scoring.rouge_l(response, reference)
            found.append(
                Sample(
                    task=task,
                    example=example,
                    document=str(example // 4),
                    prompt=f"Question {example}?",
                    response=response,
                    reference=reference,
                    score=score,
                )
            )
    return found


def _record(method: str, answers: list[Sample], zero: Estimate) -> Record:
    examples = samples.example_scores(answers)
    values = samples.recompute(answers, zero.value)
    record = Record(
        cell=_cell(method),
        status="done",
        dtype="float32",
        metrics={
            name: measured_metric(name, value, examples, zero) for name, value in values.items()
        },
        examples=examples,
        survival=_survival() if method == "npo_gdr" else None,
        provenance=_provenance(zero),
    )
    provenance = record.provenance.model_copy(update={"tasks": task_versions(record)})
    return record.model_copy(update={"provenance": provenance})


def _cell(method: str) -> Cell:
    entry = CONFIG.unlearn[0]
    unlearned = method == entry.method
    retrain = ModelId(name="demo-retrain", revision="recipe:2")
    target = ModelId(name="demo-target", revision="recipe:1")
    return Cell(
        training=Training(
            corpus=CORPUS,
            model=retrain if method == "retrain" else target,
            tokenizer=ModelId(name="demo", revision="recipe:1"),
            dtype="float32",
            method=method,
            params=entry.params if unlearned else {},
            finetuning=entry.finetuning if unlearned else "none",
            finetuning_params=entry.finetuning_params if unlearned else {},
            settings={**SETTINGS, "seed": 0} if unlearned else {},
            seed=0,
        ),
        precision="none",
        quantizer="none",
        quantizer_params={},
        subset="test",
        limit=4,
        retrain_auc=RetrainAuc(source="measured", value=None, model=retrain),
    )


def _survival() -> Survival:
    update = Update(parameters=64, norm=0.5, relative_norm=0.01, effective_rank=3.0)
    return Survival(update=update, rounding=None)


def _provenance(zero: Estimate) -> Provenance:
    return Provenance(
        created="2026-01-01T00:00:00+00:00",
        packages={"torch": "2"},
        python="3",
        platform="Linux",
        device="cpu",
        threads=1,
        git=None,
        tasks={},
        retrain_auc=zero.value,
        retrain_auc_stderr=zero.stderr,
        seconds=None,
        peak_rss_mib=1,
    )
