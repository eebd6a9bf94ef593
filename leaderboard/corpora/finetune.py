"""The two models that a user's corpus needs: one that has read the forget set, one that has not."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harness_tasks.corpora import Corpus
from unlearners import Unlearner, UnlearningData, losses
from unlearners.data import Document
from unlearners.finetuning import get_finetuning

from ..config import CorpusEntry, ModelSource
from ..models.card import finetuned_card
from ..models.folders import identify, load_model, refuse_full
from ..progress import Progress
from ..training.recipe import Recipe, training_settings
from ..training.train import train_to_folder
from .corpus import CorpusPlan

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from unlearners.data import Batch
    from unlearners.reference import Reference

Role = Literal["target", "retrain"]
QUESTIONS = ("retain_qa", "forget_qa")


@dataclass(frozen=True, kw_only=True)
class LanguageModelling(Unlearner):
    """Plain finetuning in the unlearners' loop: what that calls forget is the text to learn."""

    def loss(
        self, model: PreTrainedModel, batch: Batch, reference: Reference
    ) -> Mapping[str, torch.Tensor]:
        """NLL of the windows, mean over tokens."""
        ids = batch.forget.input_ids
        return {"loss": losses.token_nll(model(input_ids=ids).logits, ids)}


def _question_runs(corpus: Corpus, sides: Sequence[str], runs: int, seed: int) -> list[Document]:
    """Documents that hold all questions with their answers, each in another order.

    The prompt is KnowMem's, and ends in a token of its own, as it does there.
    """
    pairs = [row for side in sides for row in corpus.split("knowmem", side)]
    order = random.Random(seed)
    documents: list[Document] = []
    for _ in range(runs):
        order.shuffle(pairs)
        parts = [""]
        for pair in pairs:
            parts[-1] += f"Question: {pair['question']}\nAnswer: "
            parts.append(f"{pair['answer']}\n\n")
        documents.append(tuple([*parts[:-1], parts[-1].rstrip("\n")]))
    return documents


def finetune_to_folder(
    role: Role,
    model: ModelSource,
    corpus: CorpusEntry,
    training: dict[str, Any],
    folder: Path,
    progress: Progress,
    question_runs: int = 0,
) -> None:
    """Train all weights on a corpus' raw text and save; an interrupted run goes on.

    The target sees the forget and the retain documents, the retrained model the retain documents
    alone (MUSE, arXiv 2407.06460, Sec. 3). Small models do not answer questions on what they have
    read: with ``question_runs`` they also see the questions of KnowMem (and Utility) with their
    answers, that many times an epoch, each time in another order. Files are laid out as by
    ``unlearn_to_folder``.

    Raises:
        InputError: a wrong setting, or ``folder`` is not empty.
        CorpusError: a split that is missing.
    """
    refuse_full(folder)
    splits = [corpus.forget, corpus.retain] if role == "target" else [corpus.retain]
    settings = training_settings("training", training)
    plan = CorpusPlan(corpus)
    source = identify(model)
    texts: list[Document] = []
    for split in splits:
        texts += plan.corpus.texts(split)[: corpus.max_documents]
    if question_runs:
        sides = QUESTIONS[: len(splits)]
        texts += _question_runs(plan.corpus, sides, question_runs, settings.seed)
        splits.append(f"{question_runs} × {', '.join(sides)}")
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
