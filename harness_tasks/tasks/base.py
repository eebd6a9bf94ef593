"""MUSE (arXiv 2407.06460) as lm-eval tasks; prompts and metrics are in the YAMLs.

A YAML names a class of this module and its data in lm-eval's fields: ``dataset_path`` is the
config of the corpus (``knowmem``), ``dataset_name`` the corpus (``news``; by default ``corpus`` of
``--metadata``), ``test_split`` the split (``forget+holdout`` for two alternating ones).
``--metadata`` may also have ``data_dir``, the folder that holds the corpora; ``truncate``, to cut
texts longer than the model's context instead of refusing them; and ``retrain_scores`` (see
``membership``).
"""

from __future__ import annotations

import copy
import itertools
import logging
from collections.abc import Sequence
from functools import cache
from typing import Any

import datasets
from lm_eval.api.instance import Instance
from lm_eval.api.metrics import mean

from .. import scoring
from ..compat import Task
from ..corpora import load_corpus
from ..errors import CorpusError
from ..requests.install import install_requests
from ..requests.types import TokenOptions

logger = logging.getLogger(__name__)

install_requests()


class MuseTask(Task):
    """Base class of the tasks of MUSE, with documents from a corpus and scores × 100."""

    REQUEST_TYPE = "greedy_until"

    def __init__(self, config: dict[str, Any]) -> None:
        # with a named process_results lm-eval does not look for our metrics on the hub
        own = {"process_results": "process_results"}
        super().__init__({k: v for k, v in config.items() if k != "class"} | own)

    @property
    def truncate(self) -> bool:
        """True if the user allowed cutting texts that are too long for the model."""
        return bool(self.config.metadata.get("truncate"))

    @property
    def metrics(self) -> list[str]:
        """Names of the metrics in the YAML."""
        return [entry["metric"] for entry in self.config.metric_list]

    def download(self, dataset_kwargs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Read the splits that the YAML names.

        Raises:
            CorpusError: No corpus is named, or it lacks what the task needs.
        """
        metadata = self.config.metadata
        name = self.config.dataset_name or metadata.get("corpus")
        if name is None:
            raise CorpusError(
                f"task {self.config.task} works on any corpus and needs one: "
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
        """Build the requests without lm-eval's cache, which does not know the corpus.

        Raises:
            CorpusError: There are fewer answered questions than the prompt takes.
        """
        split, num_fewshot = self.config.fewshot_split, self.config.num_fewshot or 0
        if split and num_fewshot > (available := len(self.dataset[split])):
            raise CorpusError(
                f"corpus {self.corpus.name}: {self.config.dataset_path}/{split} has {available} "
                f"entries, the prompt takes {num_fewshot}; --num_fewshot {available} takes them all"
            )
        if kwargs.get("apply_chat_template") and not kwargs.get("rank"):
            _warn_chat_template()
        super().build_all_requests(**{**kwargs, "cache_requests": False})

    def process_results(self, doc: dict[str, Any], results: Sequence[Any]) -> dict[str, Any]:
        """Score one document; return no score with ``--predict_only``."""
        if self.predict_only:
            return {"bypass": None}
        return self.score(doc, results)

    def score(self, doc: dict[str, Any], results: Sequence[Any]) -> dict[str, Any]:
        """Compute the metrics of one document.

        Args:
            doc: Row of the corpus.
            results: Responses in the order of ``Instance.idx``.

        Raises:
            NotImplementedError: A subclass does not implement it.
        """
        raise NotImplementedError

    def _token_requests(
        self, call: dict[str, Any], doc: dict[str, Any], *texts: tuple[str, TokenOptions]
    ) -> list[Instance]:
        """Make requests to check texts before any generation, and for their log-probabilities."""
        checks = [
            self.request(call, "check_context", doc, text, idx)
            for idx, text in enumerate(texts, start=len(texts))
        ]
        return checks + [
            self.request(call, self.REQUEST_TYPE, doc, text, idx) for idx, text in enumerate(texts)
        ]

    def aggregation(self) -> dict[str, Any]:
        """Return the YAML's functions; with ``truncate`` also that of the share of cut texts."""
        return super().aggregation() | ({"truncated": mean} if self.truncate else {})

    def higher_is_better(self) -> dict[str, bool | None]:
        """Return the YAML's values; with ``truncate`` also that of the share of cut texts."""
        return super().higher_is_better() | ({"truncated": False} if self.truncate else {})

    def _truncated(self, truncated: bool) -> dict[str, float]:
        """Return the metric of cut texts, if cutting is allowed."""
        return {"truncated": float(truncated)} if self.truncate else {}


class Generation(MuseTask):
    """ROUGE-L × 100 of the generated text, cut at the stop strings, against the target."""

    def construct_requests(self, doc: dict[str, Any], ctx: str, **kwargs: Any) -> list[Instance]:
        """Make requests to check that prompt and response fit the model, and to generate.

        Args:
            doc: Row of the corpus.
            ctx: Prompt, with examples.
            **kwargs: Further arguments of lm-eval, for ``request``.
        """
        size = (ctx, self.max_tokens, self.truncate)
        settings = copy.deepcopy(self.config.generation_kwargs)
        return [
            self.request(kwargs, "check_context", doc, size, idx=1),
            self.request(kwargs, self.REQUEST_TYPE, doc, (ctx, settings)),
        ]

    @property
    def max_tokens(self) -> int:
        """Maximum number of tokens of a response."""
        return self.config.generation_kwargs["max_gen_toks"]

    def score(self, doc: dict[str, Any], results: Sequence[Any]) -> dict[str, Any]:
        """Compute ROUGE-L F × 100 of the response, cut at the stop strings."""
        response, fits, *reference = results
        answer = scoring.cut_at(response, self.config.generation_kwargs["until"])
        target = reference[0] if reference else self.doc_to_target(doc)
        (metric,) = self.metrics
        return {metric: 100 * scoring.rouge_l(answer, target)} | self._truncated(not fits)


class VerbMem(Generation):
    """ROUGE-L × 100 against the target cut to the number of generated tokens."""

    def construct_requests(self, doc: dict[str, Any], ctx: str, **kwargs: Any) -> list[Instance]:
        """Add a request that cuts the target by the model's tokenizer.

        Args:
            doc: Row of the corpus.
            ctx: Prompt, with examples.
            **kwargs: Further arguments of lm-eval, for ``request``.
        """
        *others, generate = super().construct_requests(doc, ctx, **kwargs)
        reference = (self.doc_to_target(doc), self.max_tokens)
        return [*others, self.request(kwargs, "truncate_tokens", doc, reference, idx=2), generate]


class Memorization(MuseTask):
    """Exact memorization and extraction strength of a text, given all true tokens before each.

    Exact memorization is the share of the n tokens that are the model's most likely ones;
    extraction strength is 1 − k/n with the smallest k such that all tokens from the k-th on are.
    """

    REQUEST_TYPE = "token_logprobs"

    def construct_requests(self, doc: dict[str, Any], ctx: str, **kwargs: Any) -> list[Instance]:
        """Make a request for the tokens of the text that are the most likely ones.

        Args:
            doc: Row of the corpus.
            ctx: Prompt, with examples.
            **kwargs: Further arguments of lm-eval, for ``request``.
        """
        options = TokenOptions(context=ctx, truncate=self.truncate, statistics=["greedy"])
        return self._token_requests(kwargs, doc, (self.doc_to_target(doc), options))

    def score(self, doc: dict[str, Any], results: Sequence[Any]) -> dict[str, Any]:
        """Compute both measures × 100."""
        result, _ = results
        return {
            "exact_memorization": 100 * scoring.exact_memorization(result["greedy"]),
            "extraction_strength": 100 * scoring.extraction_strength(result["greedy"]),
        } | self._truncated(result["truncated"])


@cache
def _warn_chat_template() -> None:
    """Log a single warning for all tasks of a run."""
    logger.warning(
        "--apply_chat_template is not MUSE's protocol: scores are not comparable with published "
        "ones (on a base model that recites its training text, VerbMem can fall from 99 to 10)."
    )
