"""Checks of texts against what a model holds."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from harness_tasks.errors import RequestError
from harness_tasks.requests.checks import check_ids, embedding_rows, no_eos, too_long

REQUEST: Any = SimpleNamespace(task_name="muse_verbmem", doc_id=3)


def lm(rows: int) -> Any:
    model = SimpleNamespace(get_input_embeddings=lambda: torch.nn.Embedding(rows, 2))
    tokenizer = SimpleNamespace(convert_ids_to_tokens=lambda index: f"<{index}>")
    return SimpleNamespace(model=model, tokenizer=tokenizer)


def test_rows_of_the_embedding() -> None:
    assert embedding_rows(lm(5)) == 5
    assert embedding_rows(SimpleNamespace()) is None  # type: ignore[arg-type]


def test_token_without_an_embedding() -> None:
    check_ids(lm(5), REQUEST, [0, 4])
    check_ids(lm(5), REQUEST, [])
    with pytest.raises(RequestError, match=r"muse_verbmem: text 3 has token 5 \(<5>\), the model"):
        check_ids(lm(5), REQUEST, [0, 5])


def test_errors_say_what_would_work() -> None:
    assert "max_length=" in str(too_long(REQUEST, "70 tokens", 64))
    assert "text 3 has 70 tokens, the model holds 64" in str(too_long(REQUEST, "70 tokens", 64))
    assert "--model hf-muse" in str(no_eos(lm(5)))
