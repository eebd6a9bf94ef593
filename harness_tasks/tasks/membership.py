"""Membership inference tasks on forget against holdout texts: PrivLeak and other attacks."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lm_eval.api.instance import Instance

from .. import scoring
from ..corpora.retrained import RetrainScores, checked_scores, scores_auc
from ..corpora.rows import read_json
from ..requests.types import TokenOptions
from .base import MuseTask
from .privleak import Membership

logger = logging.getLogger(__name__)


class PrivLeak(MuseTask):
    """AUC of Min-40% relative to that of the retrained model."""

    REQUEST_TYPE = "token_logprobs"

    def download(self, dataset_kwargs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Read the texts; for PrivLeak also the AUC and the scores of the retrained model.

        Raises:
            CorpusError: As for every task, or the retrain AUC is missing or malformed.
        """
        super().download(dataset_kwargs, **kwargs)
        self.retrain_auc: float | None = None
        self.retrain_scores: RetrainScores | None = None
        if "privleak" not in self.metrics:
            return
        if path := self.config.metadata.get("retrain_scores"):
            self.retrain_scores = checked_scores(
                read_json(Path(path)), Path(path), self.corpus.count_texts
            )
            self.retrain_auc = scores_auc(self.retrain_scores)
        else:
            self.retrain_auc = self.corpus.require_retrain_auc()
            self.retrain_scores = self.corpus.retrain_scores
        self.config.metadata["retrain_auc"] = self.retrain_auc
        if not 0.3 <= self.retrain_auc <= 0.7:
            logger.warning(
                "Corpus %s: the retrain AUC is %.3f; a retrained model should hardly tell forget "
                "from holdout texts (0.3 to 0.7).",
                self.corpus.name,
                self.retrain_auc,
            )
        if self.retrain_scores is not None:
            self._add_scores(self.retrain_scores)

    def _add_scores(self, scores: RetrainScores) -> None:
        """Add the retrained model's score of every text as a column."""
        split = self.config.test_split
        iterators = {part: iter(values) for part, values in scores.items()}
        column = [next(iterators[part]) for part in self.dataset[split]["split"]]
        self.dataset[split] = self.dataset[split].add_column("retrain_score", column)

    def build_all_requests(self, **kwargs: Any) -> None:
        """Build the requests; warn if a retrain AUC of all texts is used for fewer texts.

        Raises:
            CorpusError: As for every task.
        """
        total = len(self.eval_docs)
        chosen, limit = kwargs.get("samples"), kwargs.get("limit")
        evaluated = len(set(chosen)) if chosen else min(limit or total, total)
        constant = self.retrain_auc is not None and self.retrain_scores is None
        if constant and evaluated < total and not kwargs.get("rank"):
            logger.warning(
                "%s: the zero of PrivLeak, %.4f, is the retrain AUC of all %d texts and may be "
                "off for the %d evaluated; with the retrained model's scores (retrain_scores in "
                "--metadata, or scores in retrain_auc.json) it is measured on the same texts.",
                self.config.task,
                self.retrain_auc,
                total,
                evaluated,
            )
        super().build_all_requests(**kwargs)

    def construct_requests(self, doc: dict[str, Any], ctx: str, **kwargs: Any) -> list[Instance]:
        """Make a request for the log-probability of every token of the text, without a prompt.

        Args:
            doc: Row of the corpus.
            ctx: Unused.
            **kwargs: Further arguments of lm-eval, for ``request``.
        """
        options = TokenOptions(truncate=self.truncate)
        return self._token_requests(kwargs, doc, (doc["text"], options))

    def score(self, doc: dict[str, Any], results: Sequence[Any]) -> dict[str, Any]:
        """Compute the Min-40% score; the metrics differ only in their aggregation."""
        result, _ = results
        item = Membership(
            doc["split"],
            scoring.min_k(result["logprobs"]),
            self.retrain_auc,
            doc.get("retrain_score"),
        )
        return dict.fromkeys(self.metrics, item) | self._truncated(result["truncated"])


class Attacks(MuseTask):
    """AUCs of several attacks; the YAML's metrics are ``auc_<attack>`` and their errors."""

    REQUEST_TYPE = "token_logprobs"

    def construct_requests(self, doc: dict[str, Any], ctx: str, **kwargs: Any) -> list[Instance]:
        """Make requests for the text, with moments for Min-K%++, and for its lower case.

        Args:
            doc: Row of the corpus.
            ctx: Unused.
            **kwargs: Further arguments of lm-eval, for ``request``.
        """
        plain = TokenOptions(truncate=self.truncate, statistics=["moments"])
        lower = TokenOptions(truncate=self.truncate)
        text = doc["text"]
        return self._token_requests(kwargs, doc, (text, plain), (text.lower(), lower))

    def score(self, doc: dict[str, Any], results: Sequence[Any]) -> dict[str, Any]:
        """Compute the score of every attack."""
        plain, lower, *_ = results
        scores = scoring.attacks(
            doc["text"],
            plain["logprobs"],
            lower["logprobs"],
            plain["means"],
            plain["deviations"],
        )
        items = {
            metric: Membership(
                doc["split"], scores[metric.removeprefix("auc_").removesuffix("_stderr")]
            )
            for metric in self.metrics
        }
        return items | self._truncated(plain["truncated"] or lower["truncated"])
