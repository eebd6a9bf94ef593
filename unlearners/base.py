"""Base class of unlearners: a frozen configuration that is called on a model and its data."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from pydantic import ConfigDict

from quantizers.parameters import validate_fields

from .data import UnlearningData
from .errors import UnlearnerError
from .method import Method

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback

    from .finetuning import Finetuning
    from .training import TrainingSettings


@dataclasses.dataclass(frozen=True, kw_only=True)
class Unlearner(Method):
    """Base of all unlearners: a frozen, keyword-only dataclass that is its own configuration.

    A method is a subclass, a dataclass too (``@dataclass(frozen=True, kw_only=True)``), that
    implements ``loss``. It declares the range of a field in its annotation
    (``Annotated[float, Field(gt=0)]``), and checks fields against each other in ``__post_init__``
    after ``super().__post_init__()``, raising ``UnlearnerError``. Everything else that a method
    can override is documented in ``Method``.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", allow_inf_nan=False)

    def __post_init__(self) -> None:
        """Validate and convert every field by its annotation.

        Raises:
            UnlearnerError: A value is of the wrong type or out of range.
        """
        validate_fields(self, UnlearnerError)

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
        """Unlearn, merge an adapter, and return the model in its original dtype.

        A single process trains only on the model's own device. Under ``accelerate launch`` every
        process calls this with the same arguments and gets the whole model, in main memory if
        FSDP or DeepSpeed split it for training.

        Args:
            model: Target model. Its weights are trained in place, so use the returned model only.
            tokenizer: The model's tokenizer. It needs neither a BOS nor a padding token.
            data: Forget and retain text.
            finetuning: Weights to train: all of them, or an adapter.
            training: Settings of the training loop.
            output_dir: Folder for ``run.json`` (settings), ``loss.jsonl``, the Trainer's
                checkpoints, ``adapter/`` (LoRA only) and, at the end, ``facts.json`` (see
                ``facts.read_training_facts``). An interrupted run continues there when called
                again with the same arguments and number of processes, and ends with the same
                weights. The last checkpoint may be deleted once the model is saved.
            reference_cache: Folder in which numbers of the target model are kept for other
                methods and settings. By default they are in ``output_dir`` until training ends.
            callbacks: Additional callbacks of the Trainer, for example a progress bar.

        Returns:
            The unlearned model in evaluation mode.

        Raises:
            UnlearnerError: Data, settings or ``output_dir`` do not fit this run, or memory ran
                out.
            DivergedError: The loss, the gradient or a weight is no longer finite.
        """
        from .engine.run import run

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
