"""Compatibility with lm-eval 0.4 and 0.5; all differences between them are handled here.

0.5 passes the document's number to ``construct_requests`` instead of a tuple, keeps metrics in
scorers, reads documents lazily, and hides the index of tasks.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.metrics import mean
from lm_eval.api.task import ConfigurableTask


def task_index(manager: Any) -> dict[str, Any]:
    """Return the index of a `lm_eval.tasks.TaskManager` by name of task, group or tag."""
    return manager.task_index if hasattr(manager, "task_index") else manager._task_index


def make_request(
    request_type: str,
    doc: Mapping[str, Any],
    arguments: tuple[Any, ...],
    *,
    task: str = "",
    doc_id: int = 0,
    idx: int = 0,
    target: Any = None,
) -> Instance:
    """Make a request to a model.

    Args:
        request_type: Name of the model's method.
        doc: Document of the request.
        arguments: Arguments of the method.
        task: Name of the task.
        doc_id: Number of the document.
        idx: Position of the response among those of the document.
        target: Correct answer in lm-eval's log of samples.
    """
    names = {field.name for field in dataclasses.fields(Instance)}
    version: dict[str, Any] = (
        {"target": target} if "target" in names else {"metadata": (task, doc_id, 1)}
    )
    return Instance(
        request_type=request_type,
        doc=doc,
        arguments=arguments,
        idx=idx,
        task_name=task,
        doc_id=doc_id,
        repeats=1,  # decoding is greedy
        **version,
    )


class Task(ConfigurableTask):
    """Base class of tasks that is independent of the version of lm-eval.

    Args:
        config: Fields of the YAML.

    Attributes:
        REQUEST_TYPE: Name of the model's method for the main requests of the task.
        predict_only: True with ``--predict_only``.
    """

    REQUEST_TYPE: str
    predict_only = False
    _instances: list[Instance]

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config=config)
        # lm-eval balances the requests of its processes by this name, and accepts only its own
        # names in a YAML
        self.OUTPUT_TYPE = self.REQUEST_TYPE
        self.test_docs()  # read now, so that a broken corpus is an error of loading the task

    def request(
        self,
        call: Mapping[str, Any],
        request_type: str,
        doc: Mapping[str, Any],
        arguments: tuple[Any, ...],
        idx: int = 0,
    ) -> Instance:
        """Make a request within ``construct_requests``.

        Args:
            call: Keyword arguments of ``construct_requests``.
            request_type: Name of the model's method.
            doc: Document of the request.
            arguments: Arguments of the method.
            idx: Position of the response among those of the document.
        """
        doc_id = call["doc_id"] if "doc_id" in call else call["metadata"][1]
        return make_request(
            request_type,
            doc,
            arguments,
            task=self.config.task,
            doc_id=doc_id,
            idx=idx,
            target=self.doc_to_target(doc),
        )

    def doc_to_target(self, doc: Mapping[str, Any], doc_to_target: Any = None) -> Any:
        """Return the text of a column unchanged; lm-eval 0.5 converts digits to a number."""
        column = doc_to_target or self.config.doc_to_target
        return doc[column] if column in doc else super().doc_to_target(doc, doc_to_target)

    def doc_iterator(
        self,
        *,
        rank: int = 0,
        world_size: int = 1,
        samples: Sequence[int] | None = None,
        **kwargs: Any,
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield numbered documents; those of ``--samples`` by their position in that list.

        Both versions of lm-eval log ``samples[number]``, but 0.5 numbers documents differently.

        Args:
            rank: Index of this process.
            world_size: Number of processes.
            samples: Indices of the documents to evaluate; None for all.
            **kwargs: Further arguments of lm-eval.
        """
        if not samples:
            return super().doc_iterator(rank=rank, world_size=world_size, **kwargs)
        chosen = self.eval_docs.select(samples)
        return itertools.islice(enumerate(chosen), rank, None, world_size)

    def apply_filters(self) -> None:
        """Filter the responses of ``REQUEST_TYPE``; other responses are no texts."""
        instances = self._instances
        responses, others = (
            [r for r in instances if (r.request_type == self.REQUEST_TYPE) is is_response]
            for is_response in (True, False)
        )
        self._instances = responses
        super().apply_filters()
        self._instances = instances
        for instance in others:
            unfiltered = instance.resps if hasattr(self, "_scorers") else instance.resps[0]
            instance.filtered_resps = dict.fromkeys(responses[0].filtered_resps, unfiltered)

    def override_metric(self, metric_name: str) -> None:
        """Replace the metrics, as ``--predict_only`` does."""
        self.predict_only = metric_name == "bypass"
        self.OUTPUT_TYPE = "generate_until"  # a name that lm-eval 0.5 and the metric know
        super().override_metric(metric_name)
        self.OUTPUT_TYPE = self.REQUEST_TYPE

    def higher_is_better(self) -> dict[str, bool | None]:
        """Return the YAML's values; lm-eval 0.5 reads null as True."""
        return {entry["metric"]: entry.get("higher_is_better") for entry in self.config.metric_list}

    def aggregate(self, bootstrap_iters: int | None = None) -> tuple[dict[str, Any], int]:
        """Aggregate metrics, without lm-eval 0.5's bootstrap of AUCs (their errors are metrics)."""
        only_means = all(function is mean for function in self.aggregation().values())
        return super().aggregate(bootstrap_iters if only_means else 0)
