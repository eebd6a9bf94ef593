"""Finetuning of the two models of a user's corpus: target and retrained model."""

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
from ..models.folders import load_model, refuse_full
from ..models.identity import identify
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
    """Plain finetuning in the training loop of unlearners; its forget text is the text to learn."""

    def loss(
        self, model: PreTrainedModel, batch: Batch, reference: Reference
    ) -> Mapping[str, torch.Tensor]:
        """NLL of the windows, mean over tokens."""
        ids = batch.forget.input_ids
        return {"loss": losses.token_nll(model(input_ids=ids).logits, ids)}


def _question_runs(corpus: Corpus, sides: Sequence[str], runs: int, seed: int) -> list[Document]:
    """Make documents with all questions and answers, each in another order.

    The prompt is KnowMem's; it ends with a token boundary, as in the task.
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
    """Train all weights on a corpus' raw text and save; an interrupted run resumes.

    The target sees the forget and the retain documents, the retrained model the retain documents
    alone (MUSE, arXiv 2407.06460, Sec. 3).

    Args:
        role: ``target`` or ``retrain``.
        model: The model to start from.
        corpus: The corpus.
        training: Training settings by name.
        folder: Folder of the trained model, see ``train_to_folder``.
        progress: Progress bars.
        question_runs: Number of times an epoch shows all questions of KnowMem (and Utility) with
            their answers. Small models do not answer questions on text that they have only read.

    Raises:
        InputError: A setting is wrong, or ``folder`` is not empty.
        CorpusError: A split is missing.
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
