"""Model cards: what was done to which weights, with which text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml
from jinja2 import Environment

from ..records.schema import CorpusId, ModelId, Training

_TEMPLATE = """\
---
{{ header }}---

# {{ title }}

This model was made from `{{ model.name }}` (`{{ model.revision }}`) by {{ how }}, using
lm-eval-muse {{ version }}. {{ caveat }}

| | |
|---|---|
| corpus | {{ corpus.name }}, {{ corpus.source }}{{ revision }} |
| {{ text[0] }} | {{ text[1] }} |
| fingerprint of the corpus | `{{ corpus.fingerprint }}` |
{% for group, values in groups.items() -%}
{% for name, value in values.items() -%}
| {{ group }}: {{ name }} | {{ value }} |
{% endfor -%}
{% endfor %}
![Loss per step](training/loss.png)
"""


def unlearned_card(training: Training, version: str) -> str:
    """Of an unlearned model: Markdown with the front matter of the Hugging Face hub."""
    corpus = training.corpus
    return _card(
        tags=["machine-unlearning", "lm-eval-muse", training.method],
        title=f"{training.method} ({training.finetuning}) on {corpus.name}",
        model=training.model,
        how=f"unlearning the forget set of the corpus `{corpus.name}` with `{training.method}`",
        version=version,
        caveat=(
            "Whether it forgot, and whether that survives quantization, is what "
            "`lm-eval-muse evaluate` measures; unlearning gives no guarantee."
        ),
        corpus=corpus,
        text=("forget, retain", f"{corpus.forget}, {corpus.retain}"),
        groups={
            "method": training.params,
            "finetuning": training.finetuning_params,
            "training": training.settings,
        },
    )


def finetuned_card(
    role: str,
    model: ModelId,
    corpus: CorpusId,
    splits: Sequence[str],
    settings: dict[str, Any],
    version: str,
) -> str:
    """Of a target or retrained model: Markdown with the front matter of the Hugging Face hub."""
    caveats = {
        "target": "It knows the forget set: it is what is unlearned from.",
        "retrain": "It has not seen the forget set here: it is what unlearning is compared with.",
    }
    return _card(
        tags=["lm-eval-muse", role],
        title=f"{role} of {corpus.name}",
        model=model,
        how=f"finetuning all weights on text of the corpus `{corpus.name}`",
        version=version,
        caveat=caveats[role],
        corpus=corpus,
        text=("trained on", ", ".join(splits)),
        groups={"training": settings},
    )


def _card(tags: list[str], model: ModelId, corpus: CorpusId, **content: Any) -> str:
    header = {"tags": tags, "base_model": model.name, "library_name": "transformers"}
    return (
        Environment(keep_trailing_newline=True, autoescape=False)
        .from_string(_TEMPLATE)
        .render(
            model=model,
            corpus=corpus,
            header=yaml.safe_dump(header, sort_keys=False),
            revision=f" at {corpus.revision}" if corpus.revision else "",
            **content,
        )
    )
