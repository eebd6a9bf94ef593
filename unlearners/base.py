"""Base class of unlearners: a frozen configuration that is called on a model and its data."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, get_args

from pydantic import ConfigDict

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback

    from .data import Batch, Windows
    from .finetuning import Finetuning
    from .reference import Reference
    from .training import TrainingSettings

Need = Literal["retain", "forget_log_probs", "retain_logits"]
Document = str | tuple[str, ...]
"""A text, or its parts where tokens must end with them, as prompts and answers do."""


class UnlearnerError(ValueError):
    """An unlearner was named, configured or used wrongly; the message is one line for the user."""


class DivergedError(RuntimeError):
    """Training left the finite numbers.

    Attributes:
        step: the optimizer step (from 1) whose loss or gradient was not finite.
        loss: its loss.
    """

    def __init__(self, step: int, loss: float) -> None:
        super().__init__(f"training diverged at step {step}: loss {loss}; lower learning_rate")
        self.step = step
        self.loss = loss


@dataclasses.dataclass(frozen=True, kw_only=True)
class UnlearningData:
    """The text to unlearn from and the text to keep.

    Attributes:
        forget: documents of the forget set.
        retain: documents of the retain set; may be empty for methods without a retain loss.
    """

    forget: Sequence[Document]
    retain: Sequence[Document] = ()


class Objective(Protocol):
    """The losses of a training run."""

    def loss(
        self, model: PreTrainedModel, batch: Batch, reference: Reference
    ) -> Mapping[str, torch.Tensor]:
        """See ``Unlearner.loss``."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Unlearner:
    """Base of all unlearners: a frozen, keyword-only dataclass that is its own configuration.

    A method is a subclass, a dataclass too (``@dataclass(frozen=True, kw_only=True)``), that
    checks its fields in ``__post_init__`` (raising ``UnlearnerError``) and implements ``loss``.
    Whatever else it needs it says by overriding ``needs``, ``create_optimizer``, ``begin`` or
    ``edit``.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", validate_default=True)

    def __call__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        data: UnlearningData,
        *,
        finetuning: Finetuning,
        training: TrainingSettings,
        output_dir: Path,
        reference_cache: Path | None = None,
        callbacks: Sequence[TrainerCallback] = (),
    ) -> PreTrainedModel:
        """Unlearn; return the model (an adapter already merged), in the dtype it came in.

        A process that was not launched with others trains on the device that the model is on, and
        on no other. Under ``accelerate launch`` every process calls this with the same arguments
        and gets the whole model; where FSDP or DeepSpeed split it for training, in main memory.

        Args:
            model: the target model; consumed (its weights are trained in place).
            tokenizer: the model's tokenizer; needs neither BOS nor padding token.
            data: the forget and retain text.
            finetuning: which weights are trained.
            training: how they are trained.
            output_dir: receives ``run.json`` (settings), ``loss.jsonl``, the Trainer's
                checkpoints and, for LoRA, ``adapter/``; at the end ``facts.json``: device,
                processes, batch size, steps and number of parameters, for
                ``facts.read_training_facts``. A run that was killed continues there when called
                again with the same arguments and number of processes, and ends with the same
                weights. The last checkpoint stays: it may be deleted once the model is saved.
            reference_cache: folder where numbers of the target model are kept for other methods
                and settings; without one they live in ``output_dir`` until training ends.
            callbacks: more callbacks of the Hugging Face Trainer, for example a progress bar.

        Raises:
            UnlearnerError: data, settings or ``output_dir`` do not fit this run, or memory ran
                out.
            DivergedError: the loss, the gradient or a weight is no longer finite.
        """
        from ._run import run

        return run(
            self,
            model,
            tokenizer,
            data,
            finetuning=finetuning,
            training=training,
            output_dir=output_dir,
            reference_cache=reference_cache,
            callbacks=callbacks,
        )

    @property
    def needs(self) -> frozenset[Need]:
        """Inputs of ``loss`` other than the forget windows.

        ``"retain"``: retain windows; ``"forget_log_probs"``: ``reference.log_probs`` of the forget
        windows; ``"retain_logits"``, together with ``"retain"``: ``reference.logits`` of the
        retain windows. A subclass overrides this property, or sets a class attribute ``needs``
        where the set is always the same.
        """
        return frozenset()

    def loss(
        self, model: PreTrainedModel, batch: Batch, reference: Reference
    ) -> Mapping[str, torch.Tensor]:
        """The loss of one batch.

        Args:
            model: the model in training, perhaps wrapped: only to be called, as
                ``model(input_ids=...).logits``.
            batch: its forget windows and, where needed, the retain windows paired with them.
            reference: numbers of the model before unlearning, as declared in ``needs``.

        Returns:
            scalars; ``"loss"`` is minimised, every entry is logged. All are means over the
            batch's windows (or over all their tokens: windows have equal lengths).
        """
        raise NotImplementedError

    def create_optimizer(
        self, parameters: list[dict[str, Any]], training: TrainingSettings
    ) -> torch.optim.Optimizer:
        """The optimizer of the given parameter groups: AdamW unless overridden."""
        from torch.optim import AdamW

        return AdamW(parameters, lr=training.learning_rate)

    def begin(self, model: PreTrainedModel, forget: Windows) -> Objective:
        """The object that gives the losses of one run: this one, unless a run has state.

        A method with state or hooks returns an object of its own, made for the run. Where that is
        a ``TrainerCallback`` it is called at every event of the Hugging Face Trainer:
        ``on_pre_optimizer_step`` once the gradient is complete and clipped,
        ``on_optimizer_step`` once the weights have moved. State that a resumed run needs goes
        through the Trainer's checkpoint where the object is an ``ExportableState`` too: written
        from its ``state()``, to be read again in ``on_train_begin`` from
        ``state.stateful_callbacks``.

        Args:
            model: the model in training, its weights still those of the target: the place to
                compute a mask from them, or to freeze some.
            forget: all forget windows, on the model's device.
        """
        return self

    def edit(self, original: torch.Tensor, trained: torch.Tensor) -> torch.Tensor:
        """The final value of one weight, from its target and its trained value; all float32."""
        return trained

    def to_dict(self) -> dict[str, Any]:
        """The configuration as JSON-compatible values; ``get_unlearner`` takes it back."""
        return dataclasses.asdict(self)


def check_needs(unlearner: Unlearner) -> None:
    """Refuse an entry of ``needs`` that does not exist.

    Raises:
        UnlearnerError: naming it and those that do.
    """
    known = sorted(get_args(Need))
    unknown = sorted(repr(need) for need in unlearner.needs if need not in known)
    if unknown:
        raise UnlearnerError(
            f"{type(unlearner).__name__}: unknown needs {', '.join(unknown)}: available: "
            f"{', '.join(known)}"
        )
