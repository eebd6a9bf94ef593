"""Identity of models and tokenizers: commits, digests, dtypes."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from leaderboard.config import ModelSource
from leaderboard.errors import InputError
from leaderboard.models.identity import identify_tokenizer, resolve_dtype


def test_a_folder_without_tokenizer_is_told(small_world: Any, tmp_path: Path) -> None:
    folder = shutil.copytree(small_world.target, tmp_path / "model")
    for path in folder.glob("tokenizer*"):
        path.unlink()
    (folder / "special_tokens_map.json").unlink(missing_ok=True)
    with pytest.raises(InputError, match="has no tokenizer: give `tokenizer:`"):
        identify_tokenizer(ModelSource(path=str(folder)))
    named = ModelSource(path=str(folder), tokenizer=str(small_world.target))
    own = identify_tokenizer(ModelSource(path=str(small_world.target)))
    assert identify_tokenizer(named) == own


def test_a_tokenizer_on_the_hub_needs_its_commit() -> None:
    source = ModelSource(path="a/b", revision="0" * 40, tokenizer="c/d")
    with pytest.raises(InputError, match="`tokenizer_revision:` with its full commit"):
        identify_tokenizer(source)
    pinned = source.model_copy(update={"tokenizer_revision": "1" * 40})
    assert identify_tokenizer(pinned).revision == "1" * 40


def test_dtype_of_a_checkpoint(small_world: Any, tmp_path: Path) -> None:
    """From the configuration, from the first weight where that is silent, or told to be set."""
    folder = shutil.copytree(small_world.target, tmp_path / "model")
    source = ModelSource(path=str(folder))
    config = json.loads((folder / "config.json").read_text())
    for content, expected in (
        (config | {"dtype": "bfloat16"}, "bfloat16"),
        ({k: v for k, v in config.items() if k != "dtype"} | {"torch_dtype": "float16"}, "float16"),
        ({k: v for k, v in config.items() if k != "dtype"}, "float32"),
    ):
        (folder / "config.json").write_text(json.dumps(content))
        assert resolve_dtype(source, "auto") == expected
        assert resolve_dtype(source, "bfloat16") == "bfloat16"
    (folder / "config.json").write_text(json.dumps(config | {"dtype": "float64"}))
    with pytest.raises(InputError, match=r"float64: set evaluation\.dtype to one of float32"):
        resolve_dtype(source, "auto")


def test_dtype_of_a_hub_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any, **options: Any) -> str:
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fail)
    source = ModelSource(path="a/b", revision="0" * 40)
    with pytest.raises(InputError, match=r"ConnectionError\): set evaluation\.dtype"):
        resolve_dtype(source, "auto")
