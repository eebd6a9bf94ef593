"""Model cards: metadata that the hub reads, and all settings."""

from typing import Any

import pytest
from huggingface_hub import ModelCard

from leaderboard.models.card import CAVEATS, finetuned_card, unlearned_card


def test_unlearned(make: Any) -> None:
    training = make("npo").cell.training
    card = ModelCard(unlearned_card(training, "1.2"))
    assert card.data.base_model == training.model.name
    assert card.data.tags == ["machine-unlearning", "lm-eval-muse", "npo"]
    assert f"# npo ({training.finetuning}) on {training.corpus.name}\n" in card.text
    assert f"| fingerprint of the corpus | `{training.corpus.fingerprint}` |" in card.text
    for group, values in (("method", training.params), ("training", training.settings)):
        for name, value in values.items():
            assert f"| {group}: {name} | {value} |" in card.text


@pytest.mark.parametrize("role", CAVEATS)
def test_finetuned(make: Any, role: str) -> None:
    training = make("npo").cell.training
    text = finetuned_card(
        role, training.model, training.corpus, ["raw/a", "raw/b"], {"epochs": 3}, "1.2"
    )
    card = ModelCard(text)
    assert card.data.tags == ["lm-eval-muse", role]
    assert CAVEATS[role] in card.text
    assert "| trained on | raw/a, raw/b |" in card.text
    assert "| training: epochs | 3 |" in card.text
