"""Model cards of trained models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..records.schema import CorpusId, ModelId, Training

CAVEATS = {
    "target": "It knows the forget set: unlearning starts from it.",
    "retrain": "It has not seen the forget set here: unlearning is compared with it.",
}


def unlearned_card(training: Training, version: str) -> str:
    """Card of an unlearned model, as Markdown with the metadata of the Hugging Face hub."""
    corpus = training.corpus
    return _card(
        f"{training.method} ({training.finetuning}) on {corpus.name}",
        training.model,
        corpus,
        tags=["machine-unlearning", "lm-eval-muse", training.method],
        text=f"It was made by unlearning the forget set of the corpus `{corpus.name}` with "
        f"`{training.method}`, using lm-eval-muse {version}. Unlearning gives no guarantee: "
        "`lm-eval-muse evaluate` measures whether it forgot, and whether that survives "
        "quantization.",
        rows={"forget, retain": f"{corpus.forget}, {corpus.retain}"}
        | {f"method: {name}": value for name, value in training.params.items()}
        | {f"finetuning: {name}": value for name, value in training.finetuning_params.items()}
        | {f"training: {name}": value for name, value in training.settings.items()},
    )


def finetuned_card(
    role: str,
    model: ModelId,
    corpus: CorpusId,
    splits: Sequence[str],
    settings: dict[str, Any],
    version: str,
) -> str:
    """Card of a target or retrained model, as Markdown with the metadata of the hub.

    Args:
        role: ``target`` or ``retrain``.
        model: The model that training started from.
        corpus: The corpus.
        splits: Splits that the model was trained on.
        settings: Training settings.
        version: Version of lm-eval-muse.
    """
    return _card(
        f"{role} of {corpus.name}",
        model,
        corpus,
        tags=["lm-eval-muse", role],
        text=f"It was made by finetuning all weights on text of the corpus `{corpus.name}`, using "
        f"lm-eval-muse {version}. {CAVEATS[role]}",
        rows={"trained on": ", ".join(splits)}
        | {f"training: {name}": value for name, value in settings.items()},
    )


def _card(
    title: str,
    model: ModelId,
    corpus: CorpusId,
    *,
    tags: list[str],
    text: str,
    rows: dict[str, Any],
) -> str:
    from huggingface_hub import ModelCard, ModelCardData

    data = ModelCardData(base_model=model.name, library_name="transformers", tags=tags)
    source = f"{corpus.name}, {corpus.source}" + (
        f" at {corpus.revision}" if corpus.revision else ""
    )
    rows = {"corpus": source, "fingerprint of the corpus": f"`{corpus.fingerprint}`"} | rows
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    return str(
        ModelCard(
            f"---\n{data.to_yaml()}\n---\n\n# {title}\n\n"
            f"The base model is `{model.name}` (`{model.revision}`). {text}\n\n"
            f"| | |\n|---|---|\n{table}\n\n![Loss per step](training/loss.png)\n"
        )
    )
