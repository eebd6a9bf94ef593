"""README of a submission: method, settings and results."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from ..config import UnlearnEntry
from ..grid.sweep import RULE, SearchEntry
from ..reading.escaping import escape_markdown
from ..records.schema import Record
from ..report.columns import MISSING, markdown_table
from ..report.markdown import markdown
from ..standings.table import build_table


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
    """Write the README as Markdown, with untrusted text escaped.

    Args:
        method: Name of the method.
        documentation: Docstring of its class.
        source: Sentence that says where its code is.
        plugins: Paths in the submission of the files that a run needs.
        entries: Entries of the grid, resolved.
        searched: Entries of the sweep for this method; empty without a sweep.
        local: Names of the folders of text and models that a run needs next to config.yaml.
        records: Records of the method and its references.
    """
    table = markdown("Results", build_table(records), records)
    search = "No sweep is part of this submission: the choice of its settings is not recorded."
    if searched:
        search = (
            f"The settings were chosen by a rule: {RULE}. The sweep is [search.yaml](search.yaml). "
            f"Tried:\n\n{_table(['Finetuning', 'Setting', 'Values'], _grid(searched))}"
        )
    times = ["Checkpoint", "Training, s", "Quantizing, s", "Evaluating, s", "Memory, MiB"]
    folders = f", and with these folders in it: {', '.join(local)}" if local else ""
    options = "".join(f" --plugin {plugin}" for plugin in plugins)
    return f"""\
# {escape_markdown(method)}

{escape_markdown(source)}

{_fenced(documentation)}

{re.sub("^#", "##", table, flags=re.MULTILINE)}
## Settings

Everything that was set, defaults included; also in [config.yaml](config.yaml).

{_table(["Setting", *(_title(entry) for entry in entries)], _settings(entries))}

## Search

{search}

## Hardware, versions and times

{_table(["", ""], _facts(records))}

{_table(times, _times(records))}

Seconds of quantizing and evaluating are sums over all precisions; memory is the peak of the
process.

## Reproduction

In this folder, with the same versions{escape_markdown(folders)}:

```
lm-eval-muse run config.yaml --out ../repeated{options}
```

`lm-eval-muse validate .` checks the folder without running anything of it.
"""


def _table(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Format a Markdown table with escaped text."""
    return markdown_table(
        [escape_markdown(text) for text in header],
        [[escape_markdown(text) for text in line] for line in lines],
        labels=len(header),
    )


def _title(entry: UnlearnEntry) -> str:
    return f"{', '.join(entry.corpora or [])} {entry.finetuning}"


def _settings(entries: Sequence[UnlearnEntry]) -> Iterator[list[str]]:
    """List the settings, one line each, with one column per entry."""
    columns = []
    for entry in entries:
        groups = {
            "method": entry.params,
            "finetuning": entry.finetuning_params,
            "training": entry.training,
        }
        columns.append(
            {
                f"{group}: {name}": str(value)
                for group, values in groups.items()
                for name, value in values.items()
            }
        )
    for name in dict.fromkeys(name for column in columns for name in column):
        yield [name, *(column.get(name, MISSING) for column in columns)]


def _grid(searched: Sequence[SearchEntry]) -> Iterator[list[str]]:
    for search in searched:
        for name, values in search.grid.items():
            yield [search.finetuning, name, ", ".join(map(str, values))]


def _facts(records: Sequence[Record]) -> Iterator[list[str]]:
    """List machines and versions of the records; several values if they differ."""
    origins = [record.provenance for record in records]
    names = dict.fromkeys(name for origin in origins for name in origin.packages)
    facts = {
        "Device": {origin.device for origin in origins},
        "Threads": {str(origin.threads) for origin in origins},
        "Platform": {origin.platform for origin in origins},
        "Python": {origin.python for origin in origins},
        **{name: {origin.packages.get(name, "none") for origin in origins} for name in names},
        "Commit of lm-eval-muse": {origin.git or "not a checkout" for origin in origins},
    }
    for name, values in facts.items():
        yield [name, "; ".join(sorted(values))]


def _times(records: Sequence[Record]) -> Iterator[list[str]]:
    """List times and peak memory of each checkpoint."""
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
    """Fence a block of text, even if it contains fences."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text}\n{fence}"
