"""The matrix as a document."""

from __future__ import annotations

import re
from typing import Any

COLUMNS = {
    "hf 1": "hf, 1",
    "hf 5": "hf, 5",
    "hf-muse 1": "hf-muse, 1",
    "hf-muse 5": "hf-muse, 5",
    "full npo_gdr": "full, GDR",
    "full npo_klr": "full, KLR",
    "lora npo_gdr": "LoRA, GDR",
    "lora npo_klr": "LoRA, KLR",
    "rtn-int4": "rtn-int4",
    "quanto-int4": "quanto-int4",
    "bnb-fp4": "bnb-fp4",
}
VERDICTS = {
    **{"works": "✓", "in part": "in part", "refused": "refused", "upstream": "upstream"},
    "WRONG": "**WRONG**",
}
ENOUGH = 4
"""Different tokens among ten that show that a text is not one token for ever."""
LONGEST = 400
HEAD = """\
# Architectures

Made by `make architectures` with {versions}.

Every causal language model of transformers that can be built tiny, and multimodal checkpoints, went
through each command. A model has two to five layers, one of each kind that its architecture has, 64
features and random weights, trained until it half knows eight sentences; it is saved to a folder
and every command starts from there. The cells:

- `hf`, `hf-muse` at batch sizes 1 and 5: lm-eval's model class and ours answer the requests of the
  tasks. Works: greedy texts are those of transformers without a cache, one text at a time;
  log-probabilities are within {tolerance:g} of the log-softmax of single texts.
- `full`, `LoRA` with NPO and GDR or KLR: two steps of `lm-eval-muse unlearn`. Works: losses are
  finite and the first ones are those of a model that is its own reference; every weight that text
  reaches has changed (with LoRA every linear layer and every expert, and nothing else); the folder
  has the tensors of the one before, by name, and loads complete.
- quantizers: `lm-eval-muse quantize`. Works: every linear layer and expert is quantized, towers for
  images and sound are as before, and loaded again the logits are equal.

✓ works. *in part*: works, and LoRA is not for every linear layer; the share of the parameters that
a training prints and records tells. *refused*: one line instead, before anything is trained.
*upstream*: transformers, PEFT or lm-eval fail alone, without this package. **WRONG**: a result that
differs, or a traceback. Numbers stand for the lines below the table.

{counts}

"""
Rows = dict[str, dict[str, Any]]


def summary(row: dict[str, Any]) -> str:
    """One line for the terminal."""
    name = f"{row['model_type']} ({row.get('seconds', 0)} s)"
    if "not_built" in row:
        return f"{name}: not built: {row['not_built'][:200]}"
    found: dict[str, list[str]] = {}
    for column in COLUMNS:
        found.setdefault(row["cells"][column]["verdict"], []).append(column)
    return f"{name}: " + "; ".join(f"{v}: {', '.join(c)}" for v, c in found.items())


def count(rows: Rows) -> dict[str, int]:
    """Cells by verdict."""
    found = [cell["verdict"] for row in rows.values() for cell in row.get("cells", {}).values()]
    return {verdict: found.count(verdict) for verdict in VERDICTS}


def document(rows: Rows, libraries: dict[str, str], tolerance: float) -> str:
    """The whole document as Markdown."""
    built = {name: row for name, row in rows.items() if "cells" in row}
    lines: dict[str, list[str]] = {}
    table = [
        f"| model type | {' | '.join(COLUMNS.values())} |",
        f"|---|{'---|' * len(COLUMNS)}",
    ]
    for name, row in built.items():
        cells = [_cell(row["cells"][column], row, lines) for column in COLUMNS]
        few = "†" if row["distinct"] < ENOUGH and row["cells"]["hf 1"]["verdict"] == "works" else ""
        table.append(f"| {name}{few} | {' | '.join(cells)} |")
    counts = count(rows)
    total = f"{len(built)} architectures, {sum(counts.values())} cells: " + ", ".join(
        f"{number} {'work' if verdict == 'works' else verdict}"
        for verdict, number in counts.items()
    )
    versions = ", ".join(f"{name} {version}" for name, version in libraries.items())
    parts = [HEAD.format(versions=versions, tolerance=tolerance, counts=total + ".")]
    parts.append("\n".join(table) + "\n\n")
    if any("†" in line for line in table):
        parts.append(f"† Fewer than {ENOUGH} different tokens in ten: equal texts say little.\n\n")
    parts.append("## Lines\n\nWith the first model type that has it.\n\n")
    for number, (line, types) in enumerate(lines.items(), 1):
        parts.append(f"{number}. `{line}` ({types[0]})\n")
    missing = {name: row["not_built"] for name, row in rows.items() if "not_built" in row}
    if missing:
        parts.append("\n## Not built\n\n")
        parts += [f"- {name}: {_short(reason)}\n" for name, reason in missing.items()]
    return "".join(parts)


def _cell(cell: dict[str, Any], row: dict[str, Any], lines: dict[str, list[str]]) -> str:
    verdict = cell["verdict"]
    if verdict == "works":
        return VERDICTS[verdict]
    line = _short(cell["line"])
    kind = _kind(line, row["class"])
    known = {_kind(other, types[1]): other for other, types in lines.items()}
    line = known.get(kind, line)
    lines.setdefault(line, [row["model_type"], row["class"]])
    return f"{VERDICTS[verdict]} {list(lines).index(line) + 1}"


def _kind(line: str, name: str) -> str:
    """A line without what differs from model to model: names, numbers and texts."""
    stem = re.sub(r"For[A-Z]\w+$", "", name)
    line = re.sub(rf"{stem}\w*", "MODEL", line)
    line = re.sub(r"'[^']*'|\"[^\"]*\"|\{[^}]*\}|\[[^\]]*\]|\([^)]*\)", "…", line)
    line = re.sub(r"[\w.]*\.\w+(, )?", "…", line)
    return re.sub(r"[\d.e+-]+", "0", line)


def _short(line: str) -> str:
    line = line.replace("`", "'").replace("|", "/")
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"
