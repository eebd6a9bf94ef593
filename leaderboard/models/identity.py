"""Identity of models and tokenizers: commit or digest, and dtype, without loading them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import get_args

from harness_tasks.corpora import is_folder
from harness_tasks.loading import refuse_adapter
from quantizers.errors import ModelError
from unlearners.files import sha256

from ..config import ModelSource
from ..errors import InputError
from ..records.schema import Dtype, ModelId

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "spiece.model",
    "chat_template.jinja",
)
COMMIT = re.compile(r"[0-9a-f]{40}")
HUB_ID = re.compile(r"(?=.{1,96}$)[\w-][\w.-]*(/[\w-][\w.-]*)?")


def check_path(path: str) -> None:
    """Refuse a path that is neither a model folder nor a well-formed hub id."""
    if is_folder(Path(path)):
        try:
            refuse_adapter(path)
        except ModelError as error:
            raise InputError(str(error)) from error
        if not Path(path, "config.json").is_file():
            raise InputError(f"{path} is not a model folder: it has no config.json")
    elif not HUB_ID.fullmatch(path) or Path(path).exists():
        raise InputError(f"{path}: no such model folder")


def identify(source: ModelSource) -> ModelId:
    """Pin a model's weights by a commit on the hub, or by a digest of the folder's files.

    Raises:
        InputError: Neither a model folder nor a hub id with a full commit as revision.
    """
    check_path(source.path)
    folder = Path(source.path)
    if folder.is_dir():
        weights = sorted(folder.glob("*.safetensors"))
        if not weights:
            raise InputError(f"{folder} is not a model folder: it has no *.safetensors")
        return ModelId(name=folder.name, revision=_digest((folder / "config.json", *weights)))
    if not source.revision or not COMMIT.fullmatch(source.revision):
        raise InputError(
            f"{source.path}: a model on the hub needs `revision:` with its full commit, so that "
            f"records say which weights they are about; found {source.revision!r}"
        )
    return ModelId(name=source.path, revision=source.revision)


def identify_tokenizer(source: ModelSource) -> ModelId:
    """Pin the tokenizer of a model by a commit on the hub, or by a digest of its files.

    Raises:
        InputError: The folder has no tokenizer, or a tokenizer on the hub has no full commit.
    """
    place = source.tokenizer or source.path
    folder = Path(place)
    if is_folder(folder):
        files = [folder / name for name in TOKENIZER_FILES if (folder / name).is_file()]
        if not files:
            raise InputError(
                f"{place} has no tokenizer: give `tokenizer:`, a folder or hub id that has one"
            )
        return ModelId(name=folder.name, revision=_digest(files))
    revision = source.tokenizer_revision if source.tokenizer else source.revision
    if not revision or not COMMIT.fullmatch(revision):
        raise InputError(
            f"{place}: a tokenizer on the hub needs `tokenizer_revision:` with its full commit, so "
            f"that records say which one was used; found {revision!r}"
        )
    return ModelId(name=place, revision=revision)


def resolve_dtype(source: ModelSource, dtype: Dtype | str) -> Dtype:
    """Find the dtype in which a model is loaded: ``dtype``, or for ``auto`` the checkpoint's own.

    Raises:
        InputError: The checkpoint's dtype cannot be read, or is none that can be trained.
    """
    if dtype == "auto":
        dtype = stored_dtype(source)
    for known in get_args(Dtype):
        if dtype == known:
            return known
    raise InputError(
        f"{source.path} is stored in {dtype}: set evaluation.dtype to one of "
        f"{', '.join(get_args(Dtype))}"
    )


def stored_dtype(source: ModelSource) -> str:
    """Read the dtype from ``config.json``, or from the first weight where that has none."""
    local = Path(source.path, "config.json")
    path = local if local.is_file() else _hub_config(source.path, source.revision)
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        stored = config.get("dtype") or config.get("torch_dtype") or _first_dtype(path.parent)
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(f"{path}: cannot be read as a model's configuration: {error}") from error
    return str(stored).removeprefix("torch.")


@cache
def _hub_config(name: str, revision: str | None) -> Path:
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(name, "config.json", revision=revision))
    except Exception as error:  # the hub's own errors share no base class
        raise InputError(
            f"{name}: the hub does not tell its dtype ({type(error).__name__}): set "
            "evaluation.dtype"
        ) from error


def _first_dtype(folder: Path) -> str:
    from safetensors import SafetensorError, safe_open

    names = {"F32": "float32", "BF16": "bfloat16", "F16": "float16", "F64": "float64"}
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, framework="np") as file:
                for key in file.keys():  # noqa: SIM118
                    stored = file.get_slice(key).get_dtype()
                    return names.get(stored, stored)
        except SafetensorError as error:
            raise ValueError(f"{path}: {error}") from error
    return "float32"


def _digest(paths: Iterable[Path]) -> str:
    """SHA-256 over the bytes of files, abbreviated; computed once while they stay as they are."""
    stats = ((path, path.stat()) for path in paths)
    return _cached_digest(tuple((path, stat.st_size, stat.st_mtime_ns) for path, stat in stats))


@cache
def _cached_digest(files: tuple[tuple[Path, int, int], ...]) -> str:
    return f"sha256:{sha256(*(path for path, _, _ in files))[:16]}"
