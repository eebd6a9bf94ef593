"""Base class of unlearners: a frozen configuration that is called on a model and its data."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from pydantic import ConfigDict

from .data import UnlearningData
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
    declares the range of its fields (``Annotated[float, Field(gt=0)]``) or checks them in
    ``__post_init__`` (raising ``UnlearnerError``), and implements ``loss``. Everything else that a
    method can override is documented in ``Method``.
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
