"""Tasks for every lm-eval that can be installed: all that differs from 0.4 to 0.5 is here.

0.5 gives ``construct_requests`` the document's number instead of a tuple, keeps metrics in scorers,
reads documents late, and hides the index of tasks.
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
    """The index of a `lm_eval.tasks.TaskManager`, by name of task, group or tag."""
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
    """Make a request of a model.

    Args:
        request_type: method of the model.
        doc: the document that it is about.
        arguments: of the method.
        task: name of the task.
        doc_id: number of the document.
        idx: position of the response among those of the document.
        target: what lm-eval's log of samples shows as the right answer.
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
    """Task defined in Python and YAML whose subclasses need not know the version of lm-eval.

    Args:
        config: fields of the YAML.

    Attributes:
        REQUEST_TYPE: method of the model that most requests of the task are sent to.
        predict_only: True with ``--predict_only``.
    """

    REQUEST_TYPE: str
    predict_only = False
    _instances: list[Instance]

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config=config)
        # lm-eval evens out the requests of its processes by this name; no YAML may give ours
        self.OUTPUT_TYPE = self.REQUEST_TYPE
        self.test_docs()  # reads them; what is wrong with a corpus is told when a task is loaded

    def request(
        self,
        call: Mapping[str, Any],
        request_type: str,
        doc: Mapping[str, Any],
        arguments: tuple[Any, ...],
        idx: int = 0,
    ) -> Instance:
        """Make a request within ``construct_requests``, whose keyword arguments are ``call``."""
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
        """The text of a column as it is; lm-eval 0.5 makes a number of digits."""
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
        """Documents and their numbers; those of ``--samples`` by their place in that list.

        lm-eval logs ``samples[number]`` in either version, but 0.5 does not number them so.
        """
        if not samples:
            return super().doc_iterator(rank=rank, world_size=world_size, **kwargs)
        chosen = self.eval_docs.select(samples)
        return itertools.islice(enumerate(chosen), rank, None, world_size)

    def apply_filters(self) -> None:
        """Filter the responses; what a document asks of the model beside them is no text."""
        instances = self._instances
        responses, others = (
            [each for each in instances if (each.request_type == self.REQUEST_TYPE) is is_response]
            for is_response in (True, False)
        )
        self._instances = responses
        super().apply_filters()
        self._instances = instances
        for other in others:
            passed = other.resps if hasattr(self, "_scorers") else other.resps[0]
            other.filtered_resps = dict.fromkeys(responses[0].filtered_resps, passed)

    def override_metric(self, metric_name: str) -> None:
        """Replace the metrics, as ``--predict_only`` does."""
        self.predict_only = metric_name == "bypass"
        self.OUTPUT_TYPE = "generate_until"  # lm-eval 0.5 must know it, and the metric must, too
        super().override_metric(metric_name)
        self.OUTPUT_TYPE = self.REQUEST_TYPE

    def higher_is_better(self) -> dict[str, bool | None]:
        """The YAML's; lm-eval 0.5 takes null for True."""
        return {entry["metric"]: entry.get("higher_is_better") for entry in self.config.metric_list}

    def aggregate(self, bootstrap_iters: int | None = None) -> tuple[dict[str, Any], int]:
        """Aggregate metrics; no AUC by lm-eval 0.5's bootstrap, since its error is a metric."""
        closed = all(function is mean for function in self.aggregation().values())
        return super().aggregate(bootstrap_iters if closed else 0)
