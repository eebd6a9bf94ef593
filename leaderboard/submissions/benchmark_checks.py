"""Checks of a submission against MUSE's texts and models, and of PrivLeak's zero."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping

from harness_tasks import scoring
from harness_tasks.corpora import PUBLISHED, Corpus
from harness_tasks.requests.decoding import with_effect

from ..corpora.corpus import PUBLISHED_MODELS
from ..reading.untrusted_files import short
from ..records.samples import SIDES
from ..records.schema import CorpusId, ModelId, Record
from ..standings.estimates import Estimate, of_auc
from .answer_checks import is_close, metric_problems
from .findings import Finding

AUC_TOLERANCE = 0.01
"""Largest difference of two measurements of one model's AUC: near-ties may fall either way."""
SAME_AUC = 1e-9
"""Difference of two AUCs of the same order of texts."""

Records = Mapping[str, Record]
"""By the path of their file."""


def benchmark_findings(records: Records) -> Iterator[Finding]:
    """Compare texts, models and retrain AUC with those of the published benchmark."""
    corpora: dict[str, dict[str, Record]] = defaultdict(dict)
    for place, record in records.items():
        if record.status == "done":
            corpora[record.cell.training.corpus.name][place] = record
    for name, members in corpora.items():
        place, first = next(iter(members.items()))
        expected = first.provenance.retrain_auc
        yield from _text_findings(place, first)
        yield from _privleak_findings(members)
        yield from _generation_findings(members)
        models: dict[str, tuple[str, ModelId]] = {}
        for place, record in members.items():
            if (auc := record.provenance.retrain_auc) != expected:
                text = f"provenance.retrain_auc: {auc}, other cells have {expected}"
                yield Finding(place, text)
            training = record.cell.training
            if training.is_reference:
                models.setdefault(training.method, (place, training.model))
        for role, (place, model) in models.items():
            pinned = PUBLISHED_MODELS.get((name, role))
            if pinned and (model.name, model.revision) != (pinned.path, pinned.revision):
                text = f"the {role} model is not the one published with {name}"
                yield Finding(place, text, warning=True)


def _privleak_findings(members: Records) -> Iterator[Finding]:
    """Check PrivLeak's zero and the errors that depend on it.

    A measured zero is compared with the AUC that the unquantized retrained model's own examples
    give. Where the two differ by near-ties the errors are not compared: they are those of the
    other measurement.

    Args:
        members: records of one corpus.
    """
    for place, record in members.items():
        source, claimed = record.cell.retrain_auc, record.provenance.retrain_auc
        if source is None or claimed is None:
            continue
        if source.source == "measured":
            zero = _measured_zero(source.model, members)
            if zero is None:
                text = "privleak: not checked, without an unquantized record of the retrained model"
                yield Finding(place, text, warning=True)
                continue
        else:
            zero = _constant_zero(claimed, record)
        if abs(zero.value - claimed) > AUC_TOLERANCE:
            text = f"provenance.retrain_auc: {claimed}, the retrained model's answers give"
            yield Finding(place, f"{text} {zero.value:.6f}")
        elif abs(zero.value - claimed) < SAME_AUC:
            for text in _error_problems(record, zero):
                yield Finding(place, text)


def _generation_findings(members: Records) -> Iterator[Finding]:
    """Check that only weights differ from the target's, and that some do.

    Args:
        members: records of one corpus.
    """
    own = next(
        (r.generation_config for r in members.values() if r.cell.training.method == "target"), None
    )
    expected = with_effect(own or {})
    for place, record in members.items():
        if record.cell.training.is_reference:
            continue
        found = with_effect(record.generation_config or {})
        if None not in (own, record.generation_config) and found != expected:
            text = f"{short(json.dumps(found))}, the target has {short(json.dumps(expected))}"
            yield Finding(place, f"generation_config: {text}")
        if record.is_unchanged:
            text = "no weight differs from the model before unlearning: the row is not ranked"
            yield Finding(place, text, warning=True)


def _measured_zero(model: ModelId | None, members: Records) -> Estimate | None:
    """AUC of a retrained model from the examples of its own record; None without one."""
    for record in members.values():
        training = record.cell.training
        if training.method != "retrain" or training.model != model or record.is_quantized:
            continue
        forget, holdout = (record.examples.get(f"privleak/{side}") for side in SIDES)
        return of_auc(forget, holdout) if forget and holdout else None
    return None


def _constant_zero(auc: float, record: Record) -> Estimate:
    """AUC that is a constant, with the error that the evaluation gives it."""
    sides = (record.examples.get(f"privleak/{side}") for side in SIDES)
    forget, holdout = (len(side.scores) if side else 0 for side in sides)
    if not 0 < auc < 1 or not forget or not holdout:
        return Estimate(auc, None)
    stderr = scoring.hanley_mcneil_stderr(auc, holdout, forget)
    return Estimate(auc, {("retrain_auc",): stderr}, span=1.0)


def _error_problems(record: Record, zero: Estimate) -> Iterator[str]:
    """Compare the errors of PrivLeak and of its zero with those that the examples give."""
    claimed, stderr = record.provenance.retrain_auc_stderr, zero.stderr
    if stderr is not None and not is_close(claimed, stderr, max(1e-5, 0.05 * stderr)):
        yield f"provenance.retrain_auc_stderr: {claimed}, expected {stderr:.6f}"
    metric = record.metrics.get("privleak")
    if metric is not None and 0 < zero.value < 1:
        yield from metric_problems("privleak", metric, metric.value, record.examples, zero)


def _text_findings(place: str, record: Record) -> Iterator[Finding]:
    """Compare text and retrain AUC with those of the published corpus."""
    corpus, auc = record.cell.training.corpus, record.provenance.retrain_auc
    source = record.cell.retrain_auc
    name = short(corpus.name)
    pinned = PUBLISHED.get(corpus.name)
    if pinned is None:
        if corpus.source == "hub":
            yield Finding(place, f"cell.training.corpus: no {name} is known on the hub")
        else:
            text = f"the corpus {name} is not one of MUSE's: its text is not checked"
            yield Finding(place, text, warning=True)
        if auc is not None and not 0.3 <= auc <= 0.7:
            text = f"provenance.retrain_auc: {auc}, far from the 0.5 of a model that knows neither"
            yield Finding(place, text, warning=True)
        return
    if source is not None and source.source == "published" and auc != pinned.retrain_auc:
        yield Finding(place, f"provenance.retrain_auc: {auc}, {name} has {pinned.retrain_auc}")
    if corpus.source != "hub":
        text = f"the corpus {name} was read from a folder: its text is not checked"
        yield Finding(place, text, warning=True)
    elif (corpus.revision, corpus.fingerprint) != (pinned.revision, _hub_fingerprint(corpus)):
        yield Finding(place, f"cell.training.corpus: not {name} at revision {pinned.revision}")


def _hub_fingerprint(corpus: CorpusId) -> str:
    pinned = PUBLISHED[corpus.name]
    published = Corpus(
        name=corpus.name, source="hub", location=pinned.repo, revision=pinned.revision
    )
    return published.fingerprint
