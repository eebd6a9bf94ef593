"""README of a submission: the method, its settings and its results."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from jinja2 import Environment, StrictUndefined

from ..config import UnlearnEntry
from ..grid.sweep import RULE, SearchEntry
from ..reading.escaping import escape_markdown
from ..records.schema import Record
from ..report.columns import MISSING, markdown_table
from ..report.markdown import markdown
from ..standings.table import build_table

_TEMPLATE = """\
# {{ method | text }}

{{ source | text }}

{{ documentation | fenced }}

{{ results }}
## Settings

Everything that was set, defaults included; also in [config.yaml](config.yaml).

{{ settings }}

## Search

{% if searched -%}
The settings were chosen by a rule: {{ rule }}. The sweep is [search.yaml](search.yaml). Tried:

{{ searched }}
{%- else -%}
No sweep is part of this submission: how its settings were chosen is not recorded.
{%- endif %}

## Hardware, versions and times

{{ facts }}

{{ times }}

Seconds of quantizing and evaluating add up over all precisions; memory is the most that the process
had until then.

## To repeat it

In this folder, with the same versions{{ folders | text }}:

```
{{ command }}
```

`lm-eval-muse validate .` checks the folder without running anything of it.
"""


def submission_card(
    *,
    method: str,
    documentation: str,
    source: str,
    plugins: Iterable[str],
    entries: Sequence[UnlearnEntry],
    searched: Sequence[SearchEntry],
    local: Sequence[str],
    records: Sequence[Record],
) -> str:
    """Write the README as Markdown; text from elsewhere is escaped.

    Args:
        method: name of the method.
        documentation: docstring of its class.
        source: a sentence on the place of its code.
        plugins: paths in the submission of the files that a run needs.
        entries: entries of the grid, resolved.
        searched: entries of the sweep for this method; empty without a sweep.
        local: names of the folders of text and models that must be in the folder of config.yaml.
        records: records of the method and its references.
    """
    environment = Environment(
        autoescape=False, undefined=StrictUndefined, keep_trailing_newline=True
    )
    environment.filters |= {"text": escape_markdown, "fenced": _fenced}
    table = markdown("Results", build_table(records), records)
    return environment.from_string(_TEMPLATE).render(
        method=method,
        documentation=documentation,
        source=source,
        results=re.sub("^#", "##", table, flags=re.MULTILINE),
        settings=_table(["Setting", *(_title(entry) for entry in entries)], _settings(entries)),
        searched=searched and _table(["Finetuning", "Setting", "Values"], _grid(searched)),
        rule=RULE,
        facts=_table(["", ""], _facts(records)),
        times=_table(
            ["Checkpoint", "Training, s", "Quantizing, s", "Evaluating, s", "Memory, MiB"],
            _times(records),
        ),
        folders=f", and with these folders in it: {', '.join(local)}" if local else "",
        command=" ".join(
            [
                "lm-eval-muse run config.yaml --out ../repeated",
                *(f"--plugin {plugin}" for plugin in plugins),
            ]
        ),
    )


def _table(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Make a Markdown table, its text escaped."""
    return markdown_table(
        [escape_markdown(text) for text in header],
        [[escape_markdown(text) for text in line] for line in lines],
        labels=len(header),
    )


def _title(entry: UnlearnEntry) -> str:
    return f"{', '.join(entry.corpora or [])} {entry.finetuning}"


def _settings(entries: Sequence[UnlearnEntry]) -> Iterator[list[str]]:
    """List the settings, one line each, with one column per entry."""
    columns = [
        {
            f"{group}: {name}": str(value)
            for group, values in (
                ("method", entry.params),
                ("finetuning", entry.finetuning_params),
                ("training", entry.training),
            )
            for name, value in values.items()
        }
        for entry in entries
    ]
    for name in dict.fromkeys(name for column in columns for name in column):
        yield [name, *(column.get(name, MISSING) for column in columns)]


def _grid(searched: Sequence[SearchEntry]) -> Iterator[list[str]]:
    for search in searched:
        for name, values in search.grid.items():
            yield [search.finetuning, name, ", ".join(map(str, values))]


def _facts(records: Sequence[Record]) -> Iterator[list[str]]:
    """List machines and versions of the records; several values where they differ."""
    places = [record.provenance for record in records]
    names = dict.fromkeys(name for place in places for name in place.packages)
    facts = {
        "Device": {place.device for place in places},
        "Threads": {str(place.threads) for place in places},
        "Platform": {place.platform for place in places},
        "Python": {place.python for place in places},
        **{name: {place.packages.get(name, "none") for place in places} for name in names},
        "Commit of lm-eval-muse": {place.git or "not a checkout" for place in places},
    }
    for name, values in facts.items():
        yield [name, "; ".join(sorted(values))]


def _times(records: Sequence[Record]) -> Iterator[list[str]]:
    """List the seconds of each checkpoint's parts, and the memory."""
    checkpoints: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        checkpoints[record.cell.training.stem.rpartition("--")[0]].append(record)
    for name, members in checkpoints.items():
        seconds = [m.provenance.seconds for m in members if m.provenance.seconds]
        training = [s.training for s in seconds if s.training is not None]
        yield [
            name,
            f"{training[0]:.1f}" if training else MISSING,
            f"{sum(s.quantizing for s in seconds):.1f}",
            f"{sum(s.evaluating for s in seconds):.1f}",
            str(max(m.provenance.peak_rss_mib for m in members)),
        ]


def _fenced(text: str) -> str:
    """Fence a block of text, whatever fences it holds itself."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text}\n{fence}"
