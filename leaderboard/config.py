"""Configuration of a run: a validated YAML file; every error names its place in the file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
)

from .errors import InputError
from .reading.untrusted_files import Unsafe
from .reading.untrusted_values import check_value
from .records.schema import Dtype, Subset
from .records.version1 import SUBSETS

M = TypeVar("M", bound=BaseModel)


class Strict(BaseModel):
    """Immutable model that refuses unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelSource(Strict):
    """A model: a Hugging Face folder or hub id, at a revision.

    Attributes:
        path: folder or hub id.
        revision: commit on the hub.
        tokenizer: folder or hub id of the tokenizer; the model's own where left out.
        tokenizer_revision: commit of a tokenizer on the hub.
    """

    path: str
    revision: str | None = None
    tokenizer: str | None = None
    tokenizer_revision: str | None = None


class CorpusEntry(Strict):
    """A corpus and the models that were trained on it.

    Attributes:
        name: ``books``, ``news``, ``demo`` or a folder.
        data_dir: folder that holds local corpora in muse_bench's layout.
        target: the model to unlearn from; the published one (``demo``: the generated one)
            where left out.
        retrain: the model trained without the forget set, for the reference row; as ``target``.
        forget: split with the documents to unlearn.
        retain: split with the documents to keep.
        max_documents: only the first documents of both splits.
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
        method: a registered unlearner.
        finetuning: ``full`` or ``lora``.
        params: parameters of the method.
        finetuning_params: parameters of the finetuning (rank, alpha, …).
        training: training settings, over the run's.
        corpora: names of the corpora this entry is for; all where left out.
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
        quantizer: a registered quantizer.
        params: parameters of the quantizer.
        label: name in tables and file names; the quantizer's name where left out.
    """

    quantizer: str
    params: dict[str, Any] = {}
    label: str = Field(default="", pattern=r"^([A-Za-z0-9][A-Za-z0-9_.-]*)?$")

    @property
    def name(self) -> str:
        """The label, or the quantizer's name."""
        return self.label or self.quantizer


def _renamed_subset(value: Any) -> Any:
    """Accept the names that the halves had before: ``selection`` and ``final``."""
    return SUBSETS.get(value, value) if isinstance(value, str) else value


class Evaluation(Strict):
    """Settings of loading and evaluating models.

    Attributes:
        subset: ``validation`` and ``test`` are two halves of every task's examples, so that
            settings are not chosen on what the table reports.
        batch_size: batch size of lm-eval. Scores depend on it through numerical ties, and with
            ``bnb-int8``, which looks at a whole batch, in full.
        limit: use only the first examples of every task (for trials).
        device: torch device; lm-eval's default where left out.
        dtype: dtype in which models are loaded, unlearned from, saved and evaluated; ``auto`` is
            the checkpoint's own.
        chat_template: wrap prompts in the tokenizer's chat template. This is not MUSE's protocol.
        extra_tasks: names of other lm-eval tasks, evaluated in every cell.
        survival: measure in every cell what rounding keeps of the update. Takes the memory of a
            second model and its quantized form.
        log_samples: keep every answer with its record. Switch it off where the corpus must not
            leave the machine; the scores of single examples are kept in any case.
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
        cpus: cores, and threads of PyTorch.
        gpus: GPUs, or a share of one.
        memory_gib: memory in GiB; Ray does not place more on a machine than it has.
    """

    cpus: int = Field(default=1, ge=1)
    gpus: float = Field(default=0, ge=0)
    memory_gib: float | None = Field(default=None, gt=0)


class RunConfig(Strict):
    """A grid: corpora × methods and finetunings × precisions × seeds.

    Attributes:
        name: name of the run.
        corpora: corpora, by name or with their models.
        unlearn: methods, each with a finetuning.
        precisions: quantizers, by name or with parameters.
        suites: suites of MUSE in addition to the whole forget set: ``scal`` unlearns each of four
            growing forget sets from the target, ``sust`` four sets one after another.
        seeds: seeds of training; one checkpoint each.
        training: training settings of all entries.
        evaluation: settings of loading and evaluating models.
        keep: part of a checkpoint that stays when all its cells are recorded: ``all`` of the
            model, the LoRA ``adapters``, from which a model is merged again when it is needed, or
            ``none``.
        resources: resources of a chain of cells, for ``--executor ray``.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    corpora: list[CorpusEntry] = Field(min_length=1)
    unlearn: list[UnlearnEntry] = []
    precisions: list[PrecisionEntry] = Field(min_length=1)
    suites: list[Suite] = []
    seeds: list[int] = Field(default=[0], min_length=1)
    training: dict[str, Any] = {}
    evaluation: Evaluation = Evaluation()
    keep: Keep = "all"
    resources: Resources = Resources()

    @field_validator("corpora", mode="before")
    @classmethod
    def _corpus_names(cls, value: Any) -> Any:
        return _names_as(value, "name")

    @field_validator("precisions", mode="before")
    @classmethod
    def _precision_names(cls, value: Any) -> Any:
        return _names_as(value, "quantizer")


def _names_as(value: Any, key: str) -> Any:
    if isinstance(value, list):
        return [{key: item} if isinstance(item, str) else item for item in value]
    return value


def parse(model: type[M], content: Any, where: str) -> M:
    """Validate the content of a file against one of the models above.

    Args:
        model: the model.
        content: plain values, as read from the file.
        where: name of the file, for messages.

    Raises:
        InputError: a setting is wrong; the message names ``where`` and the setting's path.
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        path = ".".join(str(part) for part in first["loc"]) or "top level"
        message = first["msg"].removeprefix("Value error, ")
        raise InputError(f"{where}: {path}: {message} (found {first['input']!r:.80})") from error


class _Loader(yaml.SafeLoader):
    """Safe YAML that refuses a key that stands twice, of which the first would be lost."""

    def compose_mapping_node(self, anchor: Any) -> Any:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, value in node.value:
            name = (key.tag, key.value) if isinstance(key, yaml.ScalarNode) else id(key)
            if name in seen:
                raise yaml.MarkedYAMLError(None, None, "a key stands twice", key.start_mark)
            seen.add(name)
            # merges of lists of merges would grow without bound
            if key.tag == "tag:yaml.org,2002:merge" and isinstance(value, yaml.SequenceNode):
                raise yaml.MarkedYAMLError(None, None, "<< takes one mapping", key.start_mark)
        return node


def read_yaml(path: Path) -> Any:
    """The content of a YAML file: plain values, each with one meaning.

    Raises:
        InputError: no such file, not YAML, a key that stands twice, or values that are too deep,
            too many (as when aliases multiply), or not finite.
    """
    try:
        value = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
        check_value(value, any_text=True)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error
    except Unsafe as error:
        raise InputError(f"{path}: {error}") from error
    except Exception as error:  # what stands behind a tag, as !!int, raises whatever it likes
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path}: not YAML: {reason:.500}") from error
    return value


def load_config(path: Path) -> RunConfig:
    """Read a run's configuration; paths in it are relative to the working folder.

    Raises:
        InputError: no such file, not YAML, or a wrong setting.
    """
    return parse(RunConfig, read_yaml(path), str(path))
