"""The model card of an unlearned model: what was done to which weights, with which text."""

from __future__ import annotations

import yaml
from jinja2 import Environment

from .cell import Training

_TEMPLATE = """\
---
{{ header }}---

# {{ training.method }} ({{ training.finetuning }}) on {{ training.corpus.name }}

This model was made from `{{ training.model.name }}` (`{{ training.model.revision }}`) by unlearning
the forget set of the corpus `{{ training.corpus.name }}` with `{{ training.method }}`, using
lm-eval-muse {{ version }}. Whether it forgot, and whether that survives quantization, is what
`lm-eval-muse evaluate` measures; unlearning gives no guarantee.

| | |
|---|---|
| corpus | {{ training.corpus.name }}, {{ training.corpus.source }}{{ revision }} |
| forget, retain | {{ training.corpus.forget }}, {{ training.corpus.retain }} |
| fingerprint of the corpus | `{{ training.corpus.fingerprint }}` |
{% for group, values in groups.items() -%}
{% for name, value in values.items() -%}
| {{ group }}: {{ name }} | {{ value }} |
{% endfor -%}
{% endfor %}
![Loss per step](training/loss.png)
"""


def model_card(training: Training, version: str) -> str:
    """Markdown with the front matter of the Hugging Face hub."""
    header = {
        "tags": ["machine-unlearning", "lm-eval-muse", training.method],
        "base_model": training.model.name,
        "library_name": "transformers",
    }
    return (
        Environment(keep_trailing_newline=True, autoescape=False)
        .from_string(_TEMPLATE)
        .render(
            training=training,
            version=version,
            header=yaml.safe_dump(header, sort_keys=False),
            revision=f" at {training.corpus.revision}" if training.corpus.revision else "",
            groups={
                "method": training.params,
                "finetuning": training.finetuning_params,
                "training": training.settings,
            },
        )
    )
