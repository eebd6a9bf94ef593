"""Record of one cell, version 2: pydantic models that document every field."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from unlearners.facts import TrainingFacts

from .survival import Rounding, Update
from .version1 import legacy_cell, legacy_training

SCHEMA_VERSION: Literal[2] = 2
METRICS = ("verbmem", "knowmem", "privleak", "utility")
SUITE_METRICS = ("exact_memorization", "extraction_strength")
REFERENCES = ("target", "retrain")
UNQUANTIZED = "none"
"""Quantizer that leaves a checkpoint as it is."""

Dtype = Literal["float32", "bfloat16", "float16"]
Subset = Literal["all", "validation", "test"]
SHA256 = "^[0-9a-f]{64}$"


class Frozen(BaseModel):
    """Immutable model that refuses unknown keys; the string below a field describes it."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class CorpusId(Frozen):
    """Text of unlearning and evaluation."""

    name: str
    """Name of the corpus."""
    source: str
    """Place that it was read from: `hub`, `folder` or `generated`."""
    revision: str | None
    """Commit on the hub; null for a folder."""
    fingerprint: str
    """SHA-256 of all its files, or of repository and commit on the hub."""
    forget: str
    """Split with the documents to unlearn."""
    retain: str
    """Split with the documents to keep."""
    max_documents: int | None
    """Number of documents used of both splits; null for all."""


class ModelId(Frozen):
    """Identity of weights or of a tokenizer."""

    name: str
    """Repository on the hub, or name of the folder."""
    revision: str
    """Commit on the hub, digest of the folder's files (`sha256:`), or of the recipe that trains
    a generated model (`recipe:`)."""


class SuiteStage(Frozen):
    """One of the four forget sets of MUSE's scalability or sustainability."""

    suite: Literal["scal", "sust"]
    """`scal`: growing forget sets, each unlearned from the target. `sust`: one after another."""
    number: int
    """Number of the forget set, from 1."""
    parent: str | None
    """Digest of the training whose checkpoint this one starts from; null for the target."""


class Training(Frozen):
    """Everything that decides the weights of a checkpoint; precision does not."""

    corpus: CorpusId
    """Text of the training."""
    model: ModelId
    """Model before unlearning; for a reference row the model itself."""
    tokenizer: ModelId | None
    """Tokenizer of training and evaluation; null if it is not known (version 1)."""
    dtype: Dtype | None
    """Dtype in which the model is loaded, the checkpoint saved, and both are evaluated before
    quantization; null if it is not known (version 1)."""
    method: str
    """Registered name of the method, or `target` or `retrain`."""
    params: dict[str, Any]
    """Parameters of the method."""
    finetuning: str
    """`full`, `lora`, or `none` for a reference row."""
    finetuning_params: dict[str, Any]
    """Parameters of the finetuning."""
    settings: dict[str, Any]
    """Training settings; see `unlearners.training.TrainingSettings`."""
    seed: int
    """Seed of data order, adapter initialisation and dropout."""
    stage: SuiteStage | None = None
    """Stage of a suite; null for the whole forget set."""

    @property
    def name(self) -> str:
        """Corpus, method, finetuning and suite stage, for file names."""
        parts = [self.corpus.name, self.method, self.finetuning]
        if self.stage:
            parts.append(f"{self.stage.suite}{self.stage.number}")
        return "--".join(parts)

    @property
    def stem(self) -> str:
        """Name of the checkpoint's folder and of its survival report."""
        return f"{self.name}--seed{self.seed}--{digest(self)}"

    @property
    def is_reference(self) -> bool:
        """True for the target and retrain models, which are not trained by a run."""
        return self.method in REFERENCES


class RetrainAuc(Frozen):
    """Origin of the zero of PrivLeak: the AUC of a model trained without the forget set."""

    source: Literal["published", "corpus", "measured"]
    """`published`: a constant of MUSE for all texts of News or Books. `corpus`: the file
    `retrain_auc.json` of the corpus. `measured`: the retrained model of the grid, on the texts that
    are evaluated."""
    value: float | None
    """AUC, 0 to 1; null if it is measured in the run (see `provenance.retrain_auc`)."""
    model: ModelId | None
    """Retrained model, if it is measured."""


class Cell(Frozen):
    """A checkpoint at one precision with settings of evaluation; its digest names the record."""

    training: Training
    """Checkpoint."""
    precision: str
    """Label of the quantizer in tables."""
    quantizer: str
    """Registered name of the quantizer; `none` leaves the checkpoint as it is."""
    quantizer_params: dict[str, Any]
    """Parameters of the quantizer."""
    subset: Subset = "all"
    """Examples of every task: all, or one of two halves (`validation` to choose settings, `test`
    to report)."""
    limit: int | None
    """Number of examples of every task; null for all of the subset."""
    extra_tasks: tuple[str, ...] = ()
    """Other lm-eval tasks."""
    chat_template: bool = False
    """True if prompts were wrapped in the tokenizer's chat template."""
    batch_size: int | None = None
    """Evaluation batch size where the quantizer's outputs depend on it, otherwise null."""
    retrain_auc: RetrainAuc | None = None
    """Zero of PrivLeak; null without one, and in version 1."""

    @property
    def stem(self) -> str:
        """Name of the record's file, without its ending."""
        t = self.training
        label = legacy_cell({"precision": self.precision})["precision"] if t.dtype is None else None
        return f"{t.name}--{label or self.precision}--seed{t.seed}--{digest(self)}"


class Metric(Frozen):
    """Score with its error over examples."""

    value: float
    """MUSE's score × 100, or an extra task's score in lm-eval's own unit."""
    stderr: float | None
    """Standard error over documents, in the unit of the score, that of PrivLeak's zero included;
    null if the examples do not tell it (all scores equal, or a single example)."""
    low: float | None = None
    """Lower end of the 95% interval; exact where all examples sit at an end of the range."""
    high: float | None = None
    """Upper end of the 95% interval."""


class ExampleScores(Frozen):
    """Scores of the examples of one task, without any text."""

    examples: tuple[int, ...]
    """Positions of the examples in the task's data, from 0."""
    scores: tuple[Annotated[float, Field(allow_inf_nan=False)] | None, ...]
    """ROUGE-L F × 100, or the Min-40% score in nats; null if it is not finite."""
    documents: tuple[str, ...] | None = None
    """Document of every example, where several examples share one."""

    @model_validator(mode="after")
    def _check_lengths(self) -> ExampleScores:
        documents = self.examples if self.documents is None else self.documents
        if not len(self.examples) == len(self.scores) == len(documents):
            raise ValueError("examples, scores and documents differ in number")
        return self


class Survival(Frozen):
    """Update of the checkpoint and the effect of the precision on it, over all layers."""

    update: Update
    """Size of the update."""
    rounding: Rounding | None
    """Effect of the quantizer on it; null if the weights cannot be compared one by one."""


class Seconds(Frozen):
    """Wall time of a cell's parts, in seconds."""

    training: float | None
    """Training of the checkpoint; null if it was loaded."""
    quantizing: float
    """Copying and quantizing the model."""
    evaluating: float
    """Running the tasks."""


class Provenance(Frozen):
    """Machine and versions that made a record."""

    created: str
    """UTC time, ISO 8601."""
    packages: dict[str, str]
    """Versions of the installed packages that decide numbers."""
    python: str
    """Version of Python."""
    platform: str
    """Operating system and architecture."""
    device: str
    """Name of the GPU that evaluated, or `cpu`."""
    cuda: str | None = None
    """Version of CUDA that PyTorch was built for; null on a CPU."""
    threads: int
    """Threads of PyTorch."""
    onednn: bool | None = None
    """True if float32 linear layers on a CPU were computed with oneDNN; null if it is not
    known."""
    git: str | None
    """Commit of lm-eval-muse, `+dirty` with local changes; null for an installed package."""
    tasks: dict[str, str]
    """Versions of the tasks."""
    batch_size: int | None = None
    """Evaluation batch size."""
    retrain_auc: float | None
    """AUC of the retrained model on the texts evaluated, 0 to 1: the zero of PrivLeak."""
    retrain_auc_stderr: float | None = None
    """Standard error of that AUC."""
    training: TrainingFacts | None = None
    """Circumstances of the training; null for reference rows, and if they are not known."""
    seconds: Seconds | None
    """Wall times; null for a cell that failed."""
    peak_rss_mib: int
    """Peak resident memory of the process until then, MiB."""
    peak_gpu_mib: int | None = None
    """Peak memory that PyTorch allocated on the GPU until then, MiB; null on a CPU."""


class Record(Frozen):
    """A cell with its metrics, or the reason for their absence."""

    schema_version: Literal[1, 2] = SCHEMA_VERSION
    """Version of this format. A record of version 1 keeps its number, with what it lacks null."""
    cell: Cell
    """Settings of the cell."""
    status: Literal["done", "diverged", "failed"]
    """`diverged`: the training reached numbers that are not finite. `failed`: any other error."""
    reason: str | None = None
    """Reason for the absence of all metrics, or of one."""
    bits: float | None = Field(default=None, gt=0, le=64)
    """Bits per quantized weight, as the quantizer says; null for a checkpoint that is not
    quantized."""
    dtype: str | None = None
    """Dtype of the weights that were evaluated, those of quantized layers aside."""
    metrics: dict[str, Metric] = {}
    """Scores of MUSE by name."""
    examples: dict[str, ExampleScores] = {}
    """Scores of the single examples by metric; PrivLeak's as `privleak/forget` and
    `privleak/holdout`."""
    survival: Survival | None = None
    """Update of an unlearned checkpoint at this precision; null for reference rows."""
    generation_config: dict[str, Any] | None = None
    """Generation settings of the checkpoint that differ from transformers' defaults. The tasks of
    MUSE ignore them, ids of special tokens aside; null if they are not known."""
    calibration: dict[str, Any] | None = None
    """Origin of the text of a calibrated quantizer."""
    extra: dict[str, Metric] = {}
    """Scores of extra tasks, as `<task>/<metric>`."""
    samples: str | None = Field(default=None, pattern=SHA256)
    """SHA-256 of the file of answers; null if none were kept."""
    provenance: Provenance
    """Machine and versions."""

    @property
    def is_unchanged(self) -> bool:
        """True if no weight of the checkpoint differs from those its training started from."""
        training = self.provenance.training
        if training is not None and training.changed_weights is not None:
            return not training.changed_weights
        return self.survival is not None and self.survival.update.norm == 0

    @property
    def is_quantized(self) -> bool:
        """True if the quantizer changes the checkpoint."""
        return self.cell.quantizer != UNQUANTIZED


def digest(model: BaseModel) -> str:
    """First eight hexadecimal digits of the SHA-256 of a model's canonical JSON.

    A cell or training of version 1, whose dtype is not known, keeps the digest that it had.
    """
    content = model.model_dump(mode="json")
    if isinstance(model, Cell) and model.training.dtype is None:
        content = legacy_cell(content)
    elif isinstance(model, Training) and model.dtype is None:
        content = legacy_training(content)
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:8]
