"""Corpus of a grid: text, target and retrained model, and their identity."""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from harness_tasks.corpora import RETRAIN_AUC_FILE, Corpus, load_corpus
from harness_tasks.corpora.rows import read_json
from unlearners import UnlearningData
from unlearners.files import replace_file

from ..config import CorpusEntry, Evaluation, ModelSource
from ..errors import InputError
from ..models.identity import identify, identify_tokenizer, resolve_dtype
from ..records.schema import (
    CorpusId,
    Dtype,
    ModelId,
    RetrainAuc,
)
from .demo_models import DTYPE, demo_id, demo_models
from .retrain_auc import identity, is_of, measure, scores_text

if TYPE_CHECKING:
    from ..progress import Progress

PUBLISHED_MODELS = {
    (corpus, role): ModelSource(
        path=f"muse-bench/MUSE-{corpus.title()}_{role}",
        revision=revision,
        # the published repositories hold no tokenizer
        tokenizer="meta-llama/Llama-2-7b-hf",
        tokenizer_revision="01c7f73d771dfac7d292323805ebc428287df4f9",
    )
    for corpus, role, revision in (
        ("news", "target", "a2f39769e9a0b98ec1cdd12f65e9962502208935"),
        ("news", "retrain", "324ef49ee0a038078aba7d8de831edf57235c9b3"),
        ("books", "target", "c8dd3fb23a726762ec66d277933c7cff6767f3c2"),
        ("books", "retrain", "1d67430e4e8bdf2a65823740e909792519175ac2"),
    )
}
PUBLISHED_DTYPE: Dtype = "float32"
"""Dtype in which the published models are stored."""


class CorpusPlan:
    """A corpus of the configuration and its two models.

    Args:
        entry: Entry of the configuration.
    """

    def __init__(self, entry: CorpusEntry) -> None:
        self.entry = entry

    @cached_property
    def corpus(self) -> Corpus:
        """The corpus itself."""
        return load_corpus(self.entry.name, self.entry.data_dir)

    @cached_property
    def id(self) -> CorpusId:
        """Identity of the text."""
        return CorpusId(
            name=self.corpus.name,
            source=self.corpus.source,
            revision=self.corpus.revision,
            fingerprint=self.corpus.fingerprint,
            forget=self.entry.forget,
            retain=self.entry.retain,
            max_documents=self.entry.max_documents,
        )

    @property
    def _is_demo(self) -> bool:
        return self.entry.name == "demo" and self._has_default_models

    @property
    def _has_default_models(self) -> bool:
        """True if the entry names no model: a user's target has no published retrained model."""
        return self.entry.target is None and self.entry.retrain is None

    def model(self, role: str) -> ModelSource | None:
        """Location of the ``target`` or ``retrain`` model; the demo's is trained if necessary.

        Raises:
            InputError: The configuration names no target and the corpus has no published one.
        """
        if self._is_demo:
            return ModelSource(path=str(getattr(demo_models(), role)))
        name = self.corpus.name
        source: ModelSource | None = getattr(self.entry, role)
        if self._has_default_models:
            source = PUBLISHED_MODELS.get((name, role))
        if source is None and role == "target":
            raise InputError(f"corpora: '{name}' needs `target:`, the model to unlearn from")
        return source

    def model_id(self, role: str) -> ModelId | None:
        """Pin the weights of a model, without training or loading anything."""
        if self._is_demo:
            return demo_id(f"demo-{role}")
        source = self.model(role)
        return identify(source) if source else None

    def tokenizer_id(self, role: str) -> ModelId:
        """Pin the tokenizer of a model, without loading anything.

        Raises:
            InputError: The model has no tokenizer, or one without a commit.
        """
        if self._is_demo:
            return demo_id("demo")
        return identify_tokenizer(self._required(role))

    def dtype(self, role: str, configured: str) -> Dtype:
        """Resolve ``evaluation.dtype`` for a model, without loading it.

        Raises:
            InputError: The checkpoint's own dtype cannot be read, or cannot be trained.
        """
        if configured == "auto" and self._is_demo:
            return DTYPE
        source = self._required(role)
        if configured == "auto" and source in PUBLISHED_MODELS.values():
            return PUBLISHED_DTYPE
        return resolve_dtype(source, configured)

    def _required(self, role: str) -> ModelSource:
        source = self.model(role)
        if source is None:
            raise InputError(f"corpora: '{self.entry.name}' has no {role} model")
        return source

    def retrain_auc(self, settings: Evaluation) -> RetrainAuc | None:
        """Origin of PrivLeak's zero; None for a corpus without one.

        The constants of MUSE are for all texts of News and Books. For a part of them, and for
        every other corpus, the grid's retrained model is measured on the texts evaluated; without
        such a model it is the AUC that the corpus brings.

        Raises:
            CorpusError: The corpus' own AUC cannot be read.
        """
        published = self.corpus.published_auc
        if published is not None and settings.subset == "all" and settings.limit is None:
            return RetrainAuc(source="published", value=published, model=None)
        model = self.model_id("retrain")
        if model is not None:
            return RetrainAuc(source="measured", value=None, model=model)
        if published is not None:
            return RetrainAuc(source="published", value=published, model=None)
        value = self.corpus.retrain_auc
        return None if value is None else RetrainAuc(source="corpus", value=value, model=None)

    def retrain_scores(self, settings: Evaluation, folder: Path, progress: Progress) -> Path:
        """File with the scores of the retrained model, measured at the first call.

        It is the corpus' own file where that is of the same model, tokenizer, dtype and text;
        otherwise a file in the run's folder.

        Args:
            settings: Settings of loading and evaluating models.
            folder: Folder of the run.
            progress: Progress bars.

        Raises:
            InputError: There is no such model, it cannot be loaded, or it gives NaN.
        """
        source = self._required("retrain")
        measured = identity(
            (self.model_id("retrain") or identify(source)).model_dump(),
            self.tokenizer_id("retrain").model_dump(),
            self.dtype("retrain", settings.dtype),
            self.corpus,
        )
        own = Path(self.corpus.location, RETRAIN_AUC_FILE)
        key = hashlib.sha256(json.dumps(measured, sort_keys=True).encode()).hexdigest()[:16]
        kept = folder / "retrain" / f"{self.id.name}-{key}.json"
        for path in (own, kept):
            if path.is_file() and is_of(read_json(path), measured):
                return path
        progress.stage(f"{self.id.name}: scores of the retrained model")
        content = measure(self.entry, source, measured["dtype"], settings, progress)
        replace_file(kept, scores_text(content | measured))
        return kept

    def data(self, forget: str) -> UnlearningData:
        """Text to unlearn, of the split ``forget``, and text to retain."""
        first = slice(self.entry.max_documents)
        return UnlearningData(
            forget=self.corpus.texts(forget)[first],
            retain=self.corpus.texts(self.entry.retain)[first],
        )
