"""Search over settings: trials are an ordinary grid, the choice follows a stated rule.

Trials are evaluated on one half of every task's examples (``subset: validation``); the settings
chosen are written as a configuration of the other half (``subset: test``), so that no setting is
chosen on what the final table reports.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

from pydantic import ConfigDict, Field, model_validator

from ..config import (
    RunConfig,
    Strict,
    UnlearnEntry,
    parse,
    read_yaml,
)
from ..standings.grouping import evaluation, settings_digest
from ..standings.table import Row, by_board, precision, ranking_precisions
from .plan import PlannedTraining

RULE = (
    "the highest score, the mean over the quantizers with the fewest bits at which target and "
    "retrain can be told apart, among the settings that forgot (VerbMem and KnowMem of the "
    "unquantized model at least half of the way from target to retrain); where none forgot, among "
    "all"
)
GROUPS = ("params", "finetuning_params", "training")


class SearchEntry(Strict):
    """The settings searched for one method with one finetuning.

    Attributes:
        grid: Values to try, by the setting's place in an entry of a run:
            ``training.learning_rate: [1.0e-4, 7.0e-4]``. Places joined by commas change together:
            ``finetuning_params.rank, finetuning_params.alpha: [[16, 16], [16, 32]]``.
        fixed: Everything else of the entry.
    """

    method: str
    finetuning: str
    fixed: dict[str, Any] = Field(default_factory=dict)
    grid: dict[str, list[Any]] = Field(min_length=1)
    corpora: list[str] | None = None

    @model_validator(mode="after")
    def _known_places(self) -> SearchEntry:
        for key, values in self.grid.items():
            places = _places(key)
            for group, name in places:
                if group not in GROUPS or not name:
                    expected = ", ".join(f"{group}.<name>" for group in GROUPS)
                    raise ValueError(f"'{key}': expected {expected}")
            for value in values:
                if len(places) > 1 and (not isinstance(value, list) or len(value) != len(places)):
                    raise ValueError(f"'{key}': {value!r} is not a list of {len(places)} values")
        return self

    def trials(self) -> Iterator[UnlearnEntry]:
        """One entry per combination of values."""
        for combination in itertools.product(*self.grid.values()):
            entry: dict[str, Any] = {g: dict(self.fixed.get(g, {})) for g in GROUPS}
            for key, value in zip(self.grid, combination, strict=True):
                places = _places(key)
                values = value if len(places) > 1 else [value]
                for (group, name), single in zip(places, values, strict=True):
                    entry[group][name] = single
            yield UnlearnEntry(
                method=self.method, finetuning=self.finetuning, corpora=self.corpora, **entry
            )


def _places(key: str) -> list[tuple[str, str]]:
    """Group and name of every place that a key of the grid joins."""
    parts = (place.strip().partition(".") for place in key.split(","))
    return [(group, name) for group, _, name in parts]


class SweepConfig(RunConfig):
    """Configuration of a search: a grid with values to try in place of fixed settings."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    search: list[SearchEntry] = Field(min_length=1)

    @model_validator(mode="after")
    def _subset_is_ours(self) -> SweepConfig:
        if self.unlearn or self.evaluation.subset != "all":
            raise ValueError("a sweep sets `unlearn` and `evaluation.subset` itself")
        return self

    def trials(self) -> RunConfig:
        """The grid of all trials, on the validation half."""
        entries = [entry for search in self.search for entry in search.trials()]
        return self._run(entries, "validation", self.name)

    def chosen(self, entries: list[UnlearnEntry]) -> RunConfig:
        """The grid of the chosen settings, on the test half."""
        return self._run(entries, "test", f"{self.name}-final")

    def _run(self, entries: list[UnlearnEntry], subset: str, name: str) -> RunConfig:
        content = self.model_dump(mode="json", exclude={"search"})
        content["evaluation"]["subset"] = subset
        content["unlearn"] = [entry.model_dump(mode="json") for entry in entries]
        return RunConfig.model_validate(content | {"name": name})


def load_sweep(path: Path) -> SweepConfig:
    """Read a sweep's YAML.

    Raises:
        InputError: No such file, not YAML, or a wrong setting.
    """
    return parse(SweepConfig, read_yaml(path), str(path))


def select(rows: list[Row], plan: list[PlannedTraining]) -> tuple[list[UnlearnEntry], list[str]]:
    """Choose settings by the rule, for every corpus, method and finetuning.

    Returns:
        The chosen entries, and a line for each choice that says what was chosen or why nothing.
    """
    planned = {settings_digest(p.training): p for p in plan if p.recipe}
    ours = evaluation(plan[0].cells[0].cell)  # the folder may hold trials on other examples
    rows = [row for row in rows if evaluation(row.records[0].cell) == ours]
    best: dict[tuple[str, str, str], list[Row] | None] = {}
    for board, members in by_board(rows).items():
        keys = {row.precision_key for row in ranking_precisions(members)}
        for row in members:  # best first, those that forgot before those that did not
            group = (board.corpus, row.method, row.finetuning)
            if row.settings in planned and best.get(group) is None:
                same = [other for other in members if other.checkpoint == row.checkpoint]
                ranked = [other for other in same if other.precision_key in keys]
                best[group] = ranked if row.ranked else None
    entries, lines = [], []
    for group, chosen in best.items():
        title = " ".join(group)
        if chosen is None:
            lines.append(f"{title}: no setting has a score; none is chosen")
            continue
        first = chosen[0]
        entries.append(entry_of(planned[first.settings]))
        mean = fmean(row.values["score"].mean for row in chosen)
        names = ", ".join(precision(row) for row in chosen)
        failing = "" if first.forgot else "; no setting forgot"
        label = first.setting or first.settings
        lines.append(f"{title}: {label}, score {mean:.1f} at {names}{failing}")
    return entries, lines


def entry_of(planned: PlannedTraining) -> UnlearnEntry:
    """The configuration entry of a resolved training."""
    training = planned.training
    finetuning = {k: v for k, v in training.finetuning_params.items() if k != "name"}
    settings = {k: v for k, v in training.settings.items() if k != "seed"}
    return UnlearnEntry(
        method=training.method,
        finetuning=training.finetuning,
        params=training.params,
        finetuning_params=finetuning,
        training=settings,
        corpora=[planned.corpus.entry.name],
    )
