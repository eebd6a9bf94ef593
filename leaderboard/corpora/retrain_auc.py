"""Zero of PrivLeak: Min-40% scores of a corpus' retrained model, measured once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness_tasks import scoring
from harness_tasks.corpora import RETRAIN_AUC_FILE, Corpus, load_corpus
from harness_tasks.corpora.retrained import check_auc
from harness_tasks.corpora.rows import read_json
from unlearners.files import write_new

from ..config import CorpusEntry, Evaluation, ModelSource
from ..errors import InputError
from ..evaluation.evaluate import retrain_scores
from ..models.folders import load_model
from ..models.identity import identify, identify_tokenizer, resolve_dtype

if TYPE_CHECKING:
    from ..progress import Progress


def keep_retrain_auc(
    entry: CorpusEntry, model: ModelSource, settings: Evaluation, progress: Progress
) -> float:
    """Measure a model that was trained without the forget set; write ``retrain_auc.json``.

    The file holds the AUC, the score of every text, and the identity of model, tokenizer, dtype
    and corpus. A file of the same model and text is kept as it is.

    Args:
        entry: The corpus, a user's folder.
        model: The retrained model.
        settings: Device, dtype and batch size.
        progress: Progress bars.

    Raises:
        InputError: The corpus is not a user's folder, holds the AUC of something else, or the
            model tells all forget from all holdout texts.
    """
    corpus = load_corpus(entry.name, entry.data_dir)
    if corpus.source != "folder" or corpus.published_auc is not None:
        raise InputError(
            f"corpus {corpus.name} has a retrain AUC of its own; this command is for a folder "
            "of yours"
        )
    measured = identity(
        identify(model).model_dump(),
        identify_tokenizer(model).model_dump(),
        resolve_dtype(model, settings.dtype),
        corpus,
    )
    path = Path(corpus.location, RETRAIN_AUC_FILE)
    if corpus.retrain_auc is not None:
        if is_of(read_json(path), measured):
            return corpus.retrain_auc
        raise InputError(
            f"{path} holds {corpus.retrain_auc:g}, which is not of this model and text; records "
            "may depend on it: remove the file to measure again"
        )
    progress.stage(f"{corpus.name}: AUC of {measured['model']['name']}")
    content = measure(entry, model, measured["dtype"], settings, progress)
    if not 0 < content["retrain_auc"] < 1:
        raise InputError(
            f"the AUC of {measured['model']['name']} on corpus {corpus.name} is "
            f"{content['retrain_auc']:g}: it tells every forget from every holdout text, and no "
            "model's PrivLeak can be compared with that; was it trained without the forget set?"
        )
    write_new(path, scores_text(content | measured))
    return float(content["retrain_auc"])


def scores_content(scores: dict[str, list[float]]) -> dict[str, Any]:
    """Content of a file of scores: AUC, and scores by side."""
    auc, _ = scoring.auc_and_stderr(scores["holdout"], scores["forget"])
    return {"retrain_auc": auc, "scores": scores}


def scores_text(content: dict[str, Any]) -> str:
    """Format the content of a file of scores."""
    return json.dumps(content, indent=1) + "\n"


def measure(
    entry: CorpusEntry,
    model: ModelSource,
    dtype: str,
    settings: Evaluation,
    progress: Progress,
) -> dict[str, Any]:
    """Score all texts of PrivLeak with a retrained model.

    Args:
        entry: The corpus.
        model: The retrained model.
        dtype: Dtype of its weights.
        settings: Device and batch size.
        progress: Progress bars.

    Returns:
        ``retrain_auc`` and ``scores``, the Min-40% score of every text by side.
    """
    loaded, tokenizer = load_model(
        model.path,
        revision=model.revision,
        tokenizer=model.tokenizer,
        tokenizer_revision=model.tokenizer_revision,
        dtype=dtype,
        device=settings.device,
    )
    return scores_content(retrain_scores(loaded, tokenizer, entry, settings, progress))


def identity(
    model: dict[str, Any], tokenizer: dict[str, Any], dtype: str, corpus: Corpus
) -> dict[str, Any]:
    """Identity of scores: everything that they depend on.

    Args:
        model: Identity of the model.
        tokenizer: Identity of the tokenizer.
        dtype: Dtype of the weights.
        corpus: The corpus.
    """
    return {
        "model": model,
        "tokenizer": tokenizer,
        "dtype": dtype,
        "corpus": corpus.fingerprint,
    }


def is_of(content: Any, measured: dict[str, Any]) -> bool:
    """Tell whether a file of scores is of this model and text, with the AUC of its scores."""
    try:
        check_auc(content["scores"], content["retrain_auc"], Path(RETRAIN_AUC_FILE))
    except (LookupError, TypeError, ValueError):
        return False
    return all(content.get(key) == value for key, value in measured.items())
