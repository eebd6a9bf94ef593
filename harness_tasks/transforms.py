"""Transforms of a model before evaluation, other than quantization."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from peft import PeftModel

from unlearners import Unlearner, UnlearningData
from unlearners.finetuning import Finetuning
from unlearners.training import TrainingSettings

from .corpora import Corpus

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclasses.dataclass(frozen=True, kw_only=True)
class Unlearning:
    """An unlearning method with its settings and text, to be called on a model.

    Attributes:
        name: Registered name of the method.
        unlearner: The method.
        finetuning: Choice of the trained weights.
        training: Training settings.
        corpus: Source of the text.
        forget: Split of the corpus to unlearn.
        retain: Split of the corpus to keep; read only if the method needs it.
        output_dir: Folder for checkpoints and losses; None for a temporary folder.
    """

    name: str
    unlearner: Unlearner
    finetuning: Finetuning
    training: TrainingSettings
    corpus: Corpus
    forget: str
    retain: str
    output_dir: str | None

    def __call__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
    ) -> PreTrainedModel:
        """Unlearn and return ``model``, which is consumed.

        Raises:
            CorpusError: A split cannot be read.
            UnlearnerError, DivergedError: Unlearning failed.
        """
        needs_retain = "retain" in self.unlearner.needs
        data = UnlearningData(
            forget=self.corpus.texts(self.forget),
            retain=self.corpus.texts(self.retain) if needs_retain else (),
        )
        with tempfile.TemporaryDirectory() as temporary:
            return self.unlearner(
                model,
                tokenizer,
                data,
                finetuning=self.finetuning,
                training=self.training,
                output_dir=Path(self.output_dir or temporary),
            )

    def to_dict(self) -> dict[str, Any]:
        """Return all settings as JSON-compatible values."""
        return {
            "unlearner": {"name": self.name} | self.unlearner.to_dict(),
            "finetuning": self.finetuning.to_dict(),
            "training": self.training.to_dict(),
            "corpus": self.corpus.provenance,
            "forget": self.forget,
            "retain": self.retain,
        }


def merge_adapter(model: PreTrainedModel | PeftModel, adapter: str) -> PreTrainedModel:
    """Merge an adapter in float32 and round once; bfloat16 would lose small updates.

    Args:
        model: Model of any dtype, with or without the adapter loaded.
        adapter: Folder or hub id of an adapter that PEFT can merge.

    Returns:
        The merged model in the dtype of ``model``.
    """
    if not isinstance(model, PeftModel):
        model = PeftModel.from_pretrained(model, adapter)
    dtype = next(model.get_base_model().parameters()).dtype
    _cast_parameters(model, torch.float32)
    merged = model.merge_and_unload()
    _cast_parameters(merged, dtype)
    return merged


def _cast_parameters(model: torch.nn.Module, dtype: torch.dtype) -> None:
    """Cast parameters in place; buffers (rotary frequencies) keep their precision."""
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
