"""The two models that a user's corpus needs: one that has read the forget set, one that has not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from unlearners import Unlearner, UnlearningData, losses
from unlearners.finetuning import get_finetuning

from .config import CorpusEntry, ModelSource
from .errors import InputError
from .model_card import finetuned_card
from .models import identify, load_model
from .plan import CorpusPlan, Recipe, training_settings
from .progress import Progress
from .steps import refuse_full, train_to_folder

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from unlearners.data import Batch
    from unlearners.reference import Reference

Role = Literal["target", "retrain"]


@dataclass(frozen=True, kw_only=True)
class LanguageModelling(Unlearner):
    """Plain finetuning in the unlearners' loop: what that calls forget is the text to learn."""

    def loss(
        self, model: PreTrainedModel, batch: Batch, reference: Reference
    ) -> Mapping[str, torch.Tensor]:
        """NLL of the windows, mean over tokens."""
        ids = batch.forget.input_ids
        return {"loss": losses.token_nll(model(input_ids=ids).logits, ids)}


def finetune_to_folder(
    role: Role,
    model: ModelSource,
    corpus: CorpusEntry,
    training: dict[str, Any],
    folder: Path,
    progress: Progress,
) -> None:
    """Train all weights on a corpus' raw text and save; an interrupted run goes on.

    The target sees the forget and the retain documents, the retrained model the retain documents
    alone (MUSE, arXiv 2407.06460, Sec. 3). Files are laid out as by ``unlearn_to_folder``.

    Raises:
        InputError: a wrong setting, a split that is missing, or ``folder`` is not empty.
    """
    refuse_full(folder)
    splits = (corpus.forget, corpus.retain) if role == "target" else (corpus.retain,)
    settings = training_settings("training", training)
    plan = CorpusPlan(corpus)
    source = identify(model)
    texts = [text for split in splits for text in plan.corpus.texts(split)[: corpus.max_documents]]
    if not texts:
        raise InputError(f"corpus {plan.id.name}: no text in {', '.join(splits)}")
    card = finetuned_card(
        role, source, plan.id, splits, settings.to_dict(), version("lm-eval-muse")
    )
    progress.stage(f"{plan.id.name}: training the {role} model")
    loaded, tokenizer = load_model(model.path, revision=model.revision, tokenizer=model.tokenizer)
    train_to_folder(
        Recipe(LanguageModelling(), get_finetuning("full"), settings),
        loaded,
        tokenizer,
        UnlearningData(forget=texts),
        folder,
        card,
        progress,
    )
