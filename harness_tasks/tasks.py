"""The four MUSE tasks (arXiv 2407.06460) as lm-eval tasks; prompts and metrics are in the YAMLs.

A YAML names a class of this module and, in lm-eval's own fields, what it works on:
``dataset_path`` is the config of the corpus (``knowmem``), ``dataset_name`` the corpus
(``news``; where it is missing, ``corpus`` of ``--metadata``), ``test_split`` the split
(``forget+holdout`` for two of them, alternating). ``--metadata`` may further give ``data_dir``,
the folder that holds the corpora, and ``truncate``, which cuts texts longer than the model's
context instead of refusing them.
"""

from __future__ import annotations

import dataclasses
import itertools
import logging
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import datasets
from lm_eval.api.instance import Instance
from lm_eval.api.metrics import mean
from lm_eval.api.task import ConfigurableTask

from . import requests, scoring
from .corpora import CorpusError, load_corpus

logger = logging.getLogger(__name__)


class MuseTask(ConfigurableTask):
    """What all tasks of MUSE share: documents from a corpus, and scores × 100."""

    def __init__(self, config: dict[str, Any]) -> None:
        # A named process_results keeps lm-eval from looking for our metrics on the hub.
        own = {"process_results": "process_results"}
        super().__init__(config={k: v for k, v in config.items() if k != "class"} | own)
        if self.truncate:
            self._aggregation_list["truncated"] = mean
            self._higher_is_better["truncated"] = False

    @property
    def truncate(self) -> bool:
        """Whether the user allowed cutting texts that are too long for the model."""
        return bool(self.config.metadata.get("truncate"))

    @property
    def metric(self) -> str:
        """The task's own metric, the first in its YAML."""
        return self.config.metric_list[0]["metric"]

    def download(self, dataset_kwargs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Read the splits that the YAML names.

        Raises:
            CorpusError: no corpus is named, or it lacks what the task needs.
        """
        metadata = self.config.metadata
        name = self.config.dataset_name or metadata.get("corpus")
        if name is None:
            raise CorpusError(
                f"task {self.config.task} works on any corpus and needs to be told which: "
                """--metadata '{"corpus": "<folder or name>"}'"""
            )
        self.corpus = load_corpus(name, metadata.get("data_dir"))
        metadata["corpus"] = self.corpus.provenance
        splits = {self.config.test_split, self.config.fewshot_split} - {None}
        self.dataset = {split: self._read(split) for split in splits}

    def _read(self, split: str) -> datasets.Dataset:
        config = self.config.dataset_path
        if "+" not in split:
            return self.corpus.split(config, split)
        labelled = [
            [{**row, "split": part} for row in self.corpus.split(config, part)]
            for part in split.split("+")
        ]
        # alternating, so that --limit and every process get some of each
        rows = itertools.chain.from_iterable(itertools.zip_longest(*labelled))
        return datasets.Dataset.from_list([row for row in rows if row is not None])

    def build_all_requests(self, **kwargs: Any) -> None:
        """Build the requests anew: lm-eval's cache of them does not know the corpus."""
        super().build_all_requests(**{**kwargs, "cache_requests": False})

    def process_results(self, doc: dict[str, Any], results: Sequence[Any]) -> dict[str, Any]:
        """Score one document; nothing with ``--predict_only``."""
        if "bypass" in self._metric_fn_list:
            return {"bypass": None}
        return self.score(doc, results)

    def score(self, doc: dict[str, Any], results: Sequence[Any]) -> dict[str, Any]:
        """Metrics of one document, given the responses in the order of ``Instance.idx``."""
        raise NotImplementedError

    def _truncated(self, truncated: bool) -> dict[str, float]:
        """The share of cut texts, a metric where cutting is allowed."""
        return {"truncated": float(truncated)} if self.truncate else {}


class KnowMem(MuseTask):
    """Questions on the corpus, ten pairs in context, greedy, ROUGE-L: KnowMem and Utility."""

    def construct_requests(self, doc: dict[str, Any], ctx: str, **kwargs: Any) -> list[Instance]:
        """Check that prompt and response fit the model, then generate."""
        generate = super().construct_requests(doc, ctx, **kwargs)
        fits = _also(generate, 1, "check_context", ctx, self.max_tokens, self.truncate)
        return [fits, generate]

    @property
    def max_tokens(self) -> int:
        """How many tokens a response may have."""
        return self.config.generation_kwargs["max_gen_toks"]

    def score(self, doc: dict[str, Any], results: Sequence[Any]) -> dict[str, Any]:
        """ROUGE-L F × 100 of the response, cut at the stop strings."""
        response, fits, *reference = results
        answer = scoring.cut_at(response, self.config.generation_kwargs["until"])
        target = reference[0] if reference else self.doc_to_target(doc)
        return {self.metric: 100 * scoring.rouge_l(answer, target)} | self._truncated(not fits)


class VerbMem(KnowMem):
    """Greedy continuation of a passage against its true one, ROUGE-L."""

    def construct_requests(self, doc: dict[str, Any], ctx: str, **kwargs: Any) -> list[Instance]:
        """Generate, and have the model's tokenizer cut the reference to as many tokens."""
        *others, generate = super().construct_requests(doc, ctx, **kwargs)
        reference = self.doc_to_target(doc)
        return [
            *others,
            _also(generate, 2, "truncate_tokens", reference, self.max_tokens),
            generate,
        ]


class Membership(NamedTuple):
    """A text's Min-K% score, with what PrivLeak needs to know beside it.

    Attributes:
        split: ``holdout`` (the positive class) or ``forget``.
        score: mean of the lowest 40% of the token log-probabilities.
        retrain_auc: AUC of the retrained model; None where only the AUC is asked for.
    """

    split: str
    score: float
    retrain_auc: float | None


class PrivLeak(MuseTask):
    """Membership inference by Min-40% on forget against holdout texts."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config)
        # lm-eval evens out the number of requests between processes by this name
        self.OUTPUT_TYPE = "token_logprobs"

    def download(self, dataset_kwargs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Read the texts; PrivLeak is refused for a corpus without a retrain AUC.

        Raises:
            CorpusError: as for every task, or the retrain AUC was never measured.
        """
        super().download(dataset_kwargs, **kwargs)
        self.retrain_auc = None
        if any(entry["metric"] == "privleak" for entry in self.config.metric_list):
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
        """Ask for the log-probability of every token of the text, without any prompt around it."""
        kwargs = {k: v for k, v in kwargs.items() if k == "metadata"}
        text = (doc["text"], self.truncate)
        return [Instance(request_type="token_logprobs", doc=doc, arguments=text, idx=0, **kwargs)]

    def score(self, doc: dict[str, Any], results: Sequence[Any]) -> dict[str, Any]:
        """The text's Min-40% score, the same for every metric: they differ in aggregation."""
        (result,) = results
        score = scoring.min_k(result["logprobs"])
        item = Membership(doc["split"], score, self.retrain_auc)
        metrics = [entry["metric"] for entry in self.config.metric_list]
        return dict.fromkeys(metrics, item) | self._truncated(result["truncated"])


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
        return f"failed: NaN log-probabilities in {broken} of {len(items)} texts"
    if len({item.split for item in items}) < 2:
        return "N/A: needs forget and holdout texts"
    return None


def _also(request: Instance, idx: int, request_type: str, *arguments: Any) -> Instance:
    """Another request on the same document."""
    return dataclasses.replace(
        request,
        request_type=request_type,
        arguments=arguments,
        idx=idx,
        resps=[],
        filtered_resps={},
    )


__all__ = [
    "KnowMem",
    "Membership",
    "PrivLeak",
    "VerbMem",
    "auc",
    "auc_stderr",
    "privleak",
    "privleak_stderr",
    "requests",
]
