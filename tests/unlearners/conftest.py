"""Fixtures: a tokenizer, some text, and a run of an unlearner."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from unlearners import UnlearningData, get_unlearner
from unlearners.finetuning import Finetuning, FullFinetuning

from .tiny_models import byte_tokenizer, settings


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    return byte_tokenizer(bos_token="<s>")


@pytest.fixture(scope="session")
def data() -> UnlearningData:
    """Seven forget windows and three retain windows of 16 tokens."""
    forget = [
        "Ada Quill kept nine blue herons in a lighthouse; e",
        "very one of them could whistle an old air.",
    ]
    retain = "Water boils at a lower temperature up high."
    return UnlearningData(forget=forget, retain=[retain])


@pytest.fixture(scope="session", autouse=True)
def _imports_are_no_garbage() -> None:
    """Freeze imported objects: every run collects garbage, which takes a third of a second."""
    import peft
    import transformers.trainer

    assert peft and transformers.trainer
    gc.freeze()


Run = Callable[..., PreTrainedModel]


@pytest.fixture
def run(tokenizer: PreTrainedTokenizerFast, data: UnlearningData, tmp_path: Path) -> Run:
    """Runs a method by name on a model; training settings and call arguments are keywords."""

    def call(
        name: str,
        model: PreTrainedModel,
        finetuning: Finetuning | None = None,
        *,
        params: dict[str, Any] | None = None,
        output_dir: Path | None = None,
        reference_cache: Path | None = None,
        callbacks: Any = (),
        **training: Any,
    ) -> PreTrainedModel:
        return get_unlearner(name, **params or {})(
            model,
            tokenizer,
            data,
            finetuning=finetuning or FullFinetuning(),
            training=settings(**training),
            output_dir=output_dir or tmp_path / f"run{len(list(tmp_path.iterdir()))}",
            reference_cache=reference_cache,
            callbacks=callbacks,
        )

    return call
