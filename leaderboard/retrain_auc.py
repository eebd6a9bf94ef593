"""The retrain AUC of a user's corpus: measured once, kept in its folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness_tasks.corpora import RETRAIN_AUC_FILE, Corpus, load_corpus
from harness_tasks.sealed import sealed

from .config import CorpusEntry, Evaluation, ModelSource
from .errors import InputError
from .evaluation import retrain_auc
from .models import identify, load_model
from .store import write_atomically

if TYPE_CHECKING:
    from .progress import Progress


def keep_retrain_auc(
    entry: CorpusEntry, model: ModelSource, settings: Evaluation, progress: Progress
) -> float:
    """Measure a model that was trained without the forget set; write ``retrain_auc.json``.

    Beside the AUC the file names the model and the corpus' fingerprint. Where it is there
    already, of the same model and text, nothing is measured again.

    Raises:
        InputError: the corpus is not a user's folder, holds the AUC of something else, or the
            model tells all forget from all holdout texts.
    """
    corpus = load_corpus(entry.name, entry.data_dir)
    if corpus.source != "folder" or corpus.published_auc is not None:
        raise InputError(
            f"corpus {corpus.name} has a retrain AUC of its own; this command is for a folder "
            "of yours"
        )
    weights = identify(model)
    measured = {"model": weights.model_dump(), "corpus": corpus.fingerprint}
    path = Path(corpus.location, RETRAIN_AUC_FILE)
    if (kept := _kept(corpus, path, measured)) is not None:
        return kept
    progress.stage(f"{corpus.name}: AUC of {weights.name}")
    loaded, tokenizer = load_model(
        model.path, revision=model.revision, dtype=settings.dtype, device=settings.device
    )
    auc = retrain_auc(loaded, tokenizer, entry, settings, progress)
    if not 0 < auc < 1:
        raise InputError(
            f"the AUC of {weights.name} on corpus {corpus.name} is {auc:g}: it tells every forget "
            "from every holdout text, and no model's PrivLeak can be compared with that; was it "
            "trained without the forget set?"
        )
    write_atomically(path, json.dumps(sealed({"retrain_auc": auc, **measured}), indent=1) + "\n")
    return auc


def _kept(corpus: Corpus, path: Path, measured: dict[str, Any]) -> float | None:
    """The AUC that is there, if it is of the same model and text."""
    if (auc := corpus.retrain_auc) is None:
        return None
    content = json.loads(path.read_text(encoding="utf-8"))
    if {key: content.get(key) for key in measured} != measured:
        raise InputError(
            f"{path} holds {auc:g}, which is not of this model and text; records may depend on "
            "it: remove the file to measure anew"
        )
    return auc
