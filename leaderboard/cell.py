"""What is measured: a cell is one fully resolved combination, a record is what came out."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA_VERSION = 1
METRICS = ("verbmem", "knowmem", "privleak", "utility")
FOLD_METRICS = ("exact_memorization", "extraction_strength")
REFERENCES = ("target", "retrain")


class Frozen(BaseModel):
    """Immutable, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class CorpusId(Frozen):
    """Which text: name, where it was read from, and a digest of the splits in use."""

    name: str
    source: str
    revision: str | None
    fingerprint: str
    forget: str
    retain: str
    max_documents: int | None


class ModelId(Frozen):
    """Which weights: a name to read and what pins them (a commit or a digest)."""

    name: str
    revision: str


class Fold(Frozen):
    """One of the four forget sets of MUSE's scalability or sustainability.

    Attributes:
        parent: digest of the training whose checkpoint this one goes on from; None for the target.
    """

    suite: Literal["scal", "sust"]
    number: int
    parent: str | None


class Training(Frozen):
    """Everything that decides the weights of a checkpoint; precision has no part in it."""

    corpus: CorpusId
    model: ModelId
    method: str
    params: dict[str, Any]
    finetuning: str
    finetuning_params: dict[str, Any]
    settings: dict[str, Any]
    seed: int
    fold: Fold | None = None

    @property
    def name(self) -> str:
        """Corpus, method and finetuning, and the fold where it is one: for file names."""
        parts = [self.corpus.name, self.method, self.finetuning]
        if self.fold:
            parts.append(f"{self.fold.suite}{self.fold.number}")
        return "--".join(parts)

    @property
    def stem(self) -> str:
        """Name of the checkpoint's folder."""
        return f"{self.name}--seed{self.seed}--{digest(self)}"

    @property
    def is_reference(self) -> bool:
        """Whether this is the target or retrain model, which are not trained here."""
        return self.method in REFERENCES


class Cell(Frozen):
    """A checkpoint at one precision, evaluated in one way."""

    training: Training
    precision: str
    quantizer: str
    quantizer_params: dict[str, Any]
    subset: Literal["all", "selection", "final"] = "all"
    limit: int | None
    extra_tasks: tuple[str, ...] = ()

    @property
    def stem(self) -> str:
        """Name of the record's file, without its ending."""
        t = self.training
        return f"{t.name}--{self.precision}--seed{t.seed}--{digest(self)}"


class Metric(Frozen):
    """A score and its standard error; the error is None where there is only one example."""

    value: float
    stderr: float | None


class Seconds(Frozen):
    """Wall time of a cell's parts; training is None where the checkpoint was there already."""

    training: float | None
    quantizing: float
    evaluating: float


class Provenance(Frozen):
    """Where and with what a record was made."""

    created: str
    packages: dict[str, str]
    python: str
    platform: str
    device: str
    threads: int
    git: str | None
    tasks: dict[str, str]
    retrain_auc: float | None
    seconds: Seconds | None
    peak_rss_mib: int


class Record(Frozen):
    """A cell and what came out: metrics, or the reason why there are none.

    Attributes:
        survival: of an unlearned checkpoint, how its update moved the weights over grids of
            round-to-nearest (``quantizers.survival.SurvivalReport``).
        calibration: for a calibrated quantizer, which text it saw.
        extra: scores of ``extra_tasks`` by ``<task>/<metric>``, in lm-eval's own units.
        samples: SHA-256 of the logged answers (see ``samples``); None where none were kept.
        sha256: of everything else in the record's file (``harness_tasks.sealed``), set when that
            is written; None where it was written by a version that had no such field.
    """

    schema_version: int = SCHEMA_VERSION
    cell: Cell
    status: Literal["done", "diverged", "failed"]
    reason: str | None = None
    metrics: dict[str, Metric] = {}
    survival: dict[str, Any] | None = None
    calibration: dict[str, Any] | None = None
    extra: dict[str, Metric] = {}
    samples: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")
    provenance: Provenance
    sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")


def digest(model: BaseModel) -> str:
    """Eight hex digits of the SHA-256 of a model's canonical JSON."""
    text = json.dumps(model.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:8]
