"""Configuration of a run: a validated YAML file; errors have the path of the setting."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from .errors import InputError
from .reading.untrusted_files import UnsafeError
from .reading.untrusted_values import read_yaml as parse_yaml
from .records.schema import Dtype, Subset
from .records.version1 import SUBSETS

M = TypeVar("M", bound=BaseModel)


class Strict(BaseModel):
    """Immutable model that refuses unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelSource(Strict):
    """A model: a Hugging Face folder or hub id, at a revision.

    Attributes:
        path: Folder or hub id.
        revision: Commit on the hub.
        tokenizer: Folder or hub id of the tokenizer; default: the model's own.
        tokenizer_revision: Commit of a tokenizer on the hub.
    """

    path: str
    revision: str | None = None
    tokenizer: str | None = None
    tokenizer_revision: str | None = None


class CorpusEntry(Strict):
    """A corpus and the models that were trained on it.

    Attributes:
        name: ``books``, ``news``, ``demo`` or a folder.
        data_dir: Folder that holds local corpora in muse_bench's layout.
        target: The model to unlearn from; default: the published one, and for ``demo`` the
            generated one.
        retrain: The model trained without the forget set, for the reference row; default as
            for ``target``.
        forget: Split with the documents to unlearn.
        retain: Split with the documents to keep.
        max_documents: Use only the first documents of both splits.
    """

    name: str
    data_dir: Path | None = None
    target: ModelSource | None = None
    retrain: ModelSource | None = None
    forget: str = "raw/forget"
    retain: str = "raw/retain1"
    max_documents: int | None = Field(default=None, ge=1)


class UnlearnEntry(Strict):
    """One method with one finetuning: one checkpoint per corpus and seed.

    Attributes:
        method: A registered unlearner.
        finetuning: ``full`` or ``lora``.
        params: Parameters of the method.
        finetuning_params: Parameters of the finetuning (rank, alpha, …).
        training: Training settings that override the run's.
        corpora: Names of the corpora of this entry; default: all.
    """

    method: str
    finetuning: str
    params: dict[str, Any] = {}
    finetuning_params: dict[str, Any] = {}
    training: dict[str, Any] = {}
    corpora: list[str] | None = None


class PrecisionEntry(Strict):
    """A registered quantizer with parameters, and its name in the tables.

    Attributes:
        quantizer: A registered quantizer.
        params: Parameters of the quantizer.
        label: Name in tables and file names; default: the quantizer's name.
    """

    quantizer: str
    params: dict[str, Any] = {}
    label: str = Field(default="", pattern=r"^([A-Za-z0-9][A-Za-z0-9_.-]*)?$")

    @property
    def name(self) -> str:
        """The label, or the quantizer's name."""
        return self.label or self.quantizer


def _renamed_subset(value: Any) -> Any:
    """Translate the subset names of version 1, ``selection`` and ``final``."""
    return SUBSETS.get(value, value) if isinstance(value, str) else value


class Evaluation(Strict):
    """Settings of loading and evaluating models.

    Attributes:
        subset: ``validation`` and ``test`` are two halves of every task's examples, so that
            settings are not chosen on what the table reports.
        batch_size: Batch size of lm-eval. Scores depend on it through numerical ties, and
            strongly with ``bnb-int8``, which looks at a whole batch.
        limit: Use only the first examples of every task (for trials).
        device: Torch device; default: lm-eval's.
        dtype: Dtype in which models are loaded, unlearned from, saved and evaluated; ``auto`` is
            the checkpoint's own.
        chat_template: Wrap prompts in the tokenizer's chat template. This is not MUSE's protocol.
        extra_tasks: Names of other lm-eval tasks, evaluated in every cell.
        survival: Measure in every cell the share of the update that survives rounding. It takes
            the memory of a second model and its quantized form.
        log_samples: Keep every answer with its record. Switch it off if the corpus must not
            leave the machine; the scores of single examples are always kept.
    """

    subset: Annotated[Subset, BeforeValidator(_renamed_subset)] = "all"
    batch_size: int = Field(default=16, ge=1)
    limit: int | None = Field(default=None, ge=1)
    device: str | None = None
    dtype: Dtype | Literal["auto"] = "auto"
    chat_template: bool = False
    extra_tasks: list[str] = []
    survival: bool = True
    log_samples: bool = True


Suite = Literal["scal", "sust"]
Keep = Literal["all", "adapters", "none"]


class Resources(Strict):
    """Resources of a Ray cluster that one chain of cells takes.

    Attributes:
        cpus: Cores, and threads of PyTorch.
        gpus: GPUs, or a share of one.
        memory_gib: Memory in GiB; Ray does not place more on a machine than it has.
    """

    cpus: int = Field(default=1, ge=1)
    gpus: float = Field(default=0, ge=0)
    memory_gib: float | None = Field(default=None, gt=0)


def _from_name(key: str) -> BeforeValidator:
    """Accept a string in place of a mapping that has only ``key``."""
    return BeforeValidator(lambda value: {key: value} if isinstance(value, str) else value)


class RunConfig(Strict):
    """A grid: corpora × methods and finetunings × precisions × seeds.

    Attributes:
        name: Name of the run.
        corpora: Corpora, by name or with their models.
        unlearn: Methods, each with a finetuning.
        precisions: Quantizers, by name or with parameters.
        suites: Suites of MUSE in addition to the whole forget set: ``scal`` unlearns each of four
            growing forget sets from the target, ``sust`` four sets one after another.
        seeds: Seeds of training; one checkpoint each.
        training: Training settings of all entries.
        evaluation: Settings of loading and evaluating models.
        keep: Part of a checkpoint that is kept after all its cells are recorded: ``all`` of the
            model, the LoRA ``adapters``, from which a model is merged again when it is needed, or
            ``none``.
        resources: Resources of a chain of cells, for ``--executor ray``.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    corpora: list[Annotated[CorpusEntry, _from_name("name")]] = Field(min_length=1)
    unlearn: list[UnlearnEntry] = []
    precisions: list[Annotated[PrecisionEntry, _from_name("quantizer")]] = Field(min_length=1)
    suites: list[Suite] = []
    seeds: list[int] = Field(default=[0], min_length=1)
    training: dict[str, Any] = {}
    evaluation: Evaluation = Evaluation()
    keep: Keep = "all"
    resources: Resources = Resources()


def parse(model: type[M], content: Any, source: str) -> M:
    """Validate the content of a file against a model.

    Args:
        model: Pydantic model of the file.
        content: Plain values, as read from the file.
        source: Name of the file, for messages.

    Raises:
        InputError: A setting is wrong; the message has ``source`` and the path of the setting.
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        path = ".".join(str(part) for part in first["loc"]) or "top level"
        message = first["msg"].removeprefix("Value error, ")
        raise InputError(f"{source}: {path}: {message} (found {first['input']!r:.80})") from error


def read_yaml(path: Path) -> Any:
    """Read a YAML file of plain values.

    Raises:
        InputError: The file cannot be read, is not YAML, has a duplicate key, or has values that
            are too deep, too many (as when aliases multiply), or not finite.
    """
    try:
        return parse_yaml(path.read_bytes(), aliases=True, any_text=True)
    except UnsafeError as error:
        raise InputError(f"{path}: {error}") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error


def load_config(path: Path) -> RunConfig:
    """Read the configuration of a run; its relative paths start from the working folder.

    Raises:
        InputError: The file cannot be read, is not YAML, or has a wrong setting.
    """
    return parse(RunConfig, read_yaml(path), str(path))
