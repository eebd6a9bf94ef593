"""Checks of a submission against MUSE's texts and models, and of PrivLeak's zero."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator

from harness_tasks import scoring
from harness_tasks.corpora import PUBLISHED, Corpus
from harness_tasks.requests.decoding import with_effect

from ..corpora.corpus import PUBLISHED_MODELS
from ..reading.untrusted_files import short
from ..records.samples import SIDES
from ..records.schema import ModelId, Record
from ..standings.estimates import Estimate, of_auc
from .answer_checks import error_problems, is_close
from .findings import Finding, Records

AUC_TOLERANCE = 0.01
"""Largest difference of two measurements of one model's AUC; near-ties may be ordered
differently."""
SAME_AUC = 1e-9
"""Largest difference of two AUCs of the same order of texts."""


def benchmark_findings(records: Records) -> Iterator[Finding]:
    """Compare texts, models and retrain AUC with those of the published benchmark."""
    corpora: dict[str, dict[str, Record]] = defaultdict(dict)
    for path, record in records.items():
        if record.status == "done":
            corpora[record.cell.training.corpus.name][path] = record
    for members in corpora.values():
        yield from _text_findings(*next(iter(members.items())))
        yield from _privleak_findings(members)
        yield from _generation_findings(members)
        yield from _agreement_findings(members)


def _text_findings(path: str, record: Record) -> Iterator[Finding]:
    """Compare text and retrain AUC with those of the published corpus.

    Args:
        path: Path of the first record of a corpus.
        record: The record.
    """
    corpus, auc = record.cell.training.corpus, record.provenance.retrain_auc
    source = record.cell.retrain_auc
    name = short(corpus.name)
    pinned = PUBLISHED.get(corpus.name)
    if pinned is None:
        if corpus.source == "hub":
            yield Finding(path, f"cell.training.corpus: no {name} is known on the hub")
        else:
            text = f"the corpus {name} is not one of MUSE's: its text is not checked"
            yield Finding(path, text, warning=True)
        if auc is not None and not 0.3 <= auc <= 0.7:
            text = (
                f"provenance.retrain_auc: {auc}, far from the 0.5 of a model that saw neither set"
            )
            yield Finding(path, text, warning=True)
        return
    if source is not None and source.source == "published" and auc != pinned.retrain_auc:
        yield Finding(path, f"provenance.retrain_auc: {auc}, {name} has {pinned.retrain_auc}")
    if corpus.source != "hub":
        text = f"the corpus {name} was read from a folder: its text is not checked"
        yield Finding(path, text, warning=True)
        return
    published = Corpus(
        name=corpus.name, source="hub", location=pinned.repo, revision=pinned.revision
    )
    if (corpus.revision, corpus.fingerprint) != (pinned.revision, published.fingerprint):
        yield Finding(path, f"cell.training.corpus: not {name} at revision {pinned.revision}")


def _agreement_findings(members: Records) -> Iterator[Finding]:
    """Compare the retrain AUCs of one corpus with each other, and its models with MUSE's."""
    expected = next(iter(members.values())).provenance.retrain_auc
    references: dict[str, tuple[str, Record]] = {}
    for path, record in members.items():
        if (auc := record.provenance.retrain_auc) != expected:
            text = f"provenance.retrain_auc: {auc}, other cells have {expected}"
            yield Finding(path, text)
        if record.cell.training.is_reference:
            references.setdefault(record.cell.training.method, (path, record))
    for role, (path, record) in references.items():
        corpus, model = record.cell.training.corpus.name, record.cell.training.model
        pinned = PUBLISHED_MODELS.get((corpus, role))
        if pinned and (model.name, model.revision) != (pinned.path, pinned.revision):
            text = f"the {role} model is not the one published with {corpus}"
            yield Finding(path, text, warning=True)


def _privleak_findings(members: Records) -> Iterator[Finding]:
    """Check PrivLeak's zero and the errors that depend on it, in the records of one corpus.

    A measured zero is compared with the AUC of the unquantized retrained model's own examples. If
    the two differ by near-ties, the errors are not compared: they belong to the other measurement.
    """
    for path, record in members.items():
        source, recorded = record.cell.retrain_auc, record.provenance.retrain_auc
        if source is None or recorded is None:
            continue
        if source.source == "measured":
            zero = _measured_zero(source.model, members)
        else:
            zero = _constant_zero(recorded, record)
        if zero is None:
            text = "privleak: not checked, without an unquantized record of the retrained model"
            yield Finding(path, text, warning=True)
        elif abs(zero.value - recorded) > AUC_TOLERANCE:
            text = f"provenance.retrain_auc: {recorded}, the retrained model's answers give"
            yield Finding(path, f"{text} {zero.value:.6f}")
        elif abs(zero.value - recorded) < SAME_AUC:
            for text in _error_problems(record, zero):
                yield Finding(path, text)


def _measured_zero(model: ModelId | None, members: Records) -> Estimate | None:
    """Compute the AUC of a retrained model from the examples of its own record, if it has any."""
    for record in members.values():
        training = record.cell.training
        if training.method != "retrain" or training.model != model or record.is_quantized:
            continue
        forget, holdout = (record.examples.get(f"privleak/{side}") for side in SIDES)
        return of_auc(forget, holdout) if forget and holdout else None
    return None


def _constant_zero(auc: float, record: Record) -> Estimate:
    """Return a constant AUC with the error that the evaluation gives it (Hanley and McNeil)."""
    sides = (record.examples.get(f"privleak/{side}") for side in SIDES)
    forget, holdout = (len(side.scores) if side else 0 for side in sides)
    if not 0 < auc < 1 or not forget or not holdout:
        return Estimate(auc, None)
    stderr = scoring.hanley_mcneil_stderr(auc, holdout, forget)
    return Estimate(auc, {("retrain_auc",): stderr}, span=1.0)


def _error_problems(record: Record, zero: Estimate) -> Iterator[str]:
    """Compare the errors of PrivLeak and of its zero with those of the examples."""
    recorded, stderr = record.provenance.retrain_auc_stderr, zero.stderr
    if stderr is not None and not is_close(recorded, stderr, max(1e-5, 0.05 * stderr)):
        yield f"provenance.retrain_auc_stderr: {recorded}, expected {stderr:.6f}"
    metric = record.metrics.get("privleak")
    if metric is not None and 0 < zero.value < 1:
        yield from error_problems("privleak", metric, metric.value, record.examples, zero)


def _generation_findings(members: Records) -> Iterator[Finding]:
    """Check that checkpoints of one corpus differ from the target in weights and nothing else."""
    target = next(
        (r.generation_config for r in members.values() if r.cell.training.method == "target"), None
    )
    expected = with_effect(target or {})
    for path, record in members.items():
        if record.cell.training.is_reference:
            continue
        settings = with_effect(record.generation_config or {})
        if None not in (target, record.generation_config) and settings != expected:
            text = f"{short(json.dumps(settings))}, the target has {short(json.dumps(expected))}"
            yield Finding(path, f"generation_config: {text}")
        if record.is_unchanged:
            text = "no weight differs from the model before unlearning: the row is not ranked"
            yield Finding(path, text, warning=True)
