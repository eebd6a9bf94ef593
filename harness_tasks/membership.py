"""Membership inference on forget against holdout texts: PrivLeak, and other attacks."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from lm_eval.api.instance import Instance

from . import scoring
from .corpora import CorpusError
from .tasks import MuseTask, token_request
from .token_logprobs import TokenOptions

logger = logging.getLogger(__name__)


class Membership(NamedTuple):
    """How much like a member of the training data one attack finds a text.

    Attributes:
        split: ``holdout`` (the positive class) or ``forget``.
        score: the attack's score, higher for a text that the model knows.
        retrain_auc: AUC of the retrained model; None where only the AUC is asked for.
    """

    split: str
    score: float
    retrain_auc: float | None = None


class PrivLeak(MuseTask):
    """The AUC of Min-40%, relative to the retrained model's."""

    REQUEST_TYPE = "token_logprobs"

    def download(self, dataset_kwargs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Read the texts; PrivLeak is refused for a corpus without a retrain AUC.

        Raises:
            CorpusError: as for every task, or the retrain AUC was never measured.
        """
        super().download(dataset_kwargs, **kwargs)
        self.retrain_auc = None
        if "privleak" in self.metrics:
            self.retrain_auc = self.corpus.require_retrain_auc()
            self.config.metadata["retrain_auc"] = self.retrain_auc
            if not 0.3 <= self.retrain_auc <= 0.7:
                logger.warning(
                    "Corpus %s: the retrain AUC is %.3f; a retrained model should hardly tell "
                    "forget from holdout texts (0.3 to 0.7).",
                    self.corpus.name,
                    self.retrain_auc,
                )

    def construct_requests(self, doc: dict[str, Any], ctx: str, **kwargs: Any) -> list[Instance]:
        """Ask for the log-probability of every token of the text, without a prompt around it."""
        options = TokenOptions(truncate=self.truncate)
        return [token_request(doc, doc["text"], options, kwargs["metadata"])]

    def score(self, doc: dict[str, Any], results: Sequence[Any]) -> dict[str, Any]:
        """The Min-40% score, the same for every metric: they differ in aggregation."""
        (result,) = results
        item = Membership(doc["split"], scoring.min_k(result["logprobs"]), self.retrain_auc)
        return dict.fromkeys(self.metrics, item) | self._truncated(result["truncated"])


class Attacks(MuseTask):
    """The AUCs of several attacks; the YAML's metrics are ``auc_<attack>`` and their errors."""

    REQUEST_TYPE = "token_logprobs"

    def construct_requests(self, doc: dict[str, Any], ctx: str, **kwargs: Any) -> list[Instance]:
        """Ask for the text, with the moments that Min-K%++ needs, and for it in lower case."""
        plain = TokenOptions(truncate=self.truncate, statistics=["moments"])
        lower = TokenOptions(truncate=self.truncate)
        return [
            token_request(doc, doc["text"], plain, kwargs["metadata"]),
            token_request(doc, doc["text"].lower(), lower, kwargs["metadata"], idx=1),
        ]

    def score(self, doc: dict[str, Any], results: Sequence[Any]) -> dict[str, Any]:
        """Every attack's score of the text."""
        plain, lower = results
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


def auc(items: Sequence[Membership]) -> float | str:
    """The AUC of holdout (positive) against forget texts, or why there is none."""
    return _failure(items) or _auc_and_stderr(items)[0]


def auc_stderr(items: Sequence[Membership]) -> float | str:
    """DeLong's standard error of the AUC; ``N/A``, as lm-eval has it, where there is none."""
    if _failure(items) or math.isnan(error := _auc_and_stderr(items)[1]):
        return "N/A"
    return error


def privleak(items: Sequence[Membership]) -> float | str:
    """PrivLeak in percent, or why there is none."""
    return _failure(items) or scoring.privleak(_auc_and_stderr(items)[0], _reference(items))


def privleak_stderr(items: Sequence[Membership]) -> float | str:
    """Standard error of PrivLeak, the retrain AUC taken as a constant."""
    error = auc_stderr(items)
    return error if isinstance(error, str) else error / _reference(items) * 100


def _auc_and_stderr(items: Sequence[Membership]) -> tuple[float, float]:
    holdout = [item.score for item in items if item.split == "holdout"]
    forget = [item.score for item in items if item.split == "forget"]
    return scoring.auc_and_stderr(holdout, forget)


def _reference(items: Sequence[Membership]) -> float:
    reference = items[0].retrain_auc
    if reference is None:
        raise CorpusError("PrivLeak needs the AUC of the retrained model")
    return reference


def _failure(items: Sequence[Membership]) -> str | None:
    """Why these texts have no AUC; a collapsed model must not pass for a forgetful one."""
    if broken := sum(math.isnan(item.score) for item in items):
        return f"failed: NaN scores for {broken} of {len(items)} texts"
    if len({item.split for item in items}) < 2:
        return "N/A: needs forget and holdout texts"
    return None
