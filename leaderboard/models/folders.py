"""Hugging Face model folders: load and save models; identify weights, tokenizer and dtype."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, get_args

from harness_tasks.cache import build_once, temporary_prefix
from harness_tasks.corpora import is_folder
from harness_tasks.loading import load_tokenizer, refuse_adapter, repair_generation_config
from quantizers.errors import ModelError
from quantizers.loading import load_language_model, one_line
from quantizers.saving import QUANTIZER_FILE, load_quantized
from unlearners.files import CHECKSUMS, damaged_file, sha256, write_checksums

from ..config import ModelSource
from ..errors import InputError, is_disk_full
from ..records.schema import Dtype, ModelId

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

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
PROCESSOR_FILES = (
    "preprocessor_config.json",
    "processor_config.json",
    "image_processor_config.json",
    "video_preprocessor_config.json",
    "feature_extractor_config.json",
    "chat_template.json",
)
"""Files of a multimodal model that belong neither to its weights nor to its tokenizer."""
COMMIT = re.compile(r"[0-9a-f]{40}")
SHARD = re.compile(r"[\w-][\w.-]*\.safetensors")
LOADING_ERRORS = (OSError, ValueError, KeyError, ImportError, RuntimeError)
HUB_ID = re.compile(r"(?=.{1,96}$)[\w-][\w.-]*(/[\w-][\w.-]*)?")


def load_model(
    path: str,
    *,
    revision: str | None = None,
    tokenizer: str | None = None,
    tokenizer_revision: str | None = None,
    dtype: str | torch.dtype = "auto",
    device: str | None = None,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a causal language model and its tokenizer, quantized ones of ours included.

    A multimodal checkpoint is loaded whole.

    Pickled weights, incomplete checkpoints and code that comes with a model are refused.

    Args:
        path: A folder or a hub id.
        revision: Commit, branch or tag on the hub.
        tokenizer: Folder or hub id of the tokenizer, if it is not the model's.
        tokenizer_revision: Commit, branch or tag of that tokenizer.
        dtype: Dtype of the weights; ``auto`` is the checkpoint's own.
        device: Torch device of the model; the first GPU, or the CPU, if left out.

    Raises:
        InputError: No model or tokenizer can be loaded from there.
    """
    import torch
    from safetensors import SafetensorError
    from transformers.utils import SAFE_WEIGHTS_INDEX_NAME

    _check_path(path)
    try:
        _refuse_other_weights(Path(path, SAFE_WEIGHTS_INDEX_NAME))
        loaded = load_tokenizer(tokenizer or path, tokenizer_revision if tokenizer else revision)
        if Path(path, QUANTIZER_FILE).is_file():
            model = load_quantized(path)
        else:
            model = load_language_model(path, revision=revision, dtype=dtype, use_safetensors=True)
    except (*LOADING_ERRORS, SafetensorError) as error:
        raise InputError(f"no model can be loaded from {path}: {one_line(error)}") from error
    torch.nn.Module.to(model, device or ("cuda" if torch.cuda.is_available() else "cpu"))
    return model.eval(), loaded


def save_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> Path:
    """Save model and tokenizer as a Hugging Face folder with checksums, whole or not at all.

    The folder of a multimodal model gets the files of its processor too.

    Args:
        model: The model.
        tokenizer: Its tokenizer.
        folder: The folder; left alone if it exists.
    """
    return build_once(folder, lambda temporary: _write_model(model, tokenizer, temporary))


def _write_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    from quantizers.architecture import is_multimodal

    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if is_multimodal(model):
        copy_processor(model, folder)
    write_checksums(folder)


def try_saving(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Save and remove a model next to ``folder``, before long work whose result is saved there.

    A generation configuration that transformers would not save is repaired.

    Args:
        model: The model before the work.
        tokenizer: Its tokenizer.
        folder: Folder of the result.

    Raises:
        InputError: The model cannot be saved there, or it is multimodal and not in the dtype that
            it is stored in.
    """
    _refuse_other_dtype(model)
    try:
        repair_generation_config(model)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=temporary_prefix(folder), dir=folder.parent) as place:
            _write_model(model, tokenizer, Path(place))
    except ModelError as error:
        raise InputError(str(error)) from error
    except Exception as error:  # transformers, tokenizers and safetensors raise anything
        if is_disk_full(error):
            raise
        raise InputError(f"the model cannot be saved to {folder}: {one_line(error)}") from error


def copy_processor(model: PreTrainedModel, folder: Path) -> None:
    """Copy the configuration of a multimodal model's processor to ``folder``."""
    from transformers.utils import cached_file

    for name in PROCESSOR_FILES:
        found = cached_file(
            str(model.name_or_path),
            name,
            revision=model.config._commit_hash,
            _raise_exceptions_for_missing_entries=False,
        )
        if found:
            shutil.copyfile(found, folder / name)


def _refuse_other_dtype(model: PreTrainedModel) -> None:
    """Refuse a multimodal model with parts for images or sound that were cast at loading."""
    from quantizers.architecture import is_multimodal

    path = model.name_or_path
    if not path or not is_multimodal(model):
        return
    source = ModelSource(path=path, revision=model.config._commit_hash)
    stored, found = _stored_dtype(source), str(model.dtype).removeprefix("torch.")
    if stored != found:
        raise InputError(
            f"{path} is a multimodal checkpoint stored in {stored} and loaded in {found}, "
            "which changes its parts for images or sound: set evaluation.dtype to auto"
        )


def refuse_damaged(folder: Path) -> None:
    """Refuse a folder with a file that differs from its checksum.

    The checkpoint is not trained again automatically: records of the old weights exist, and the
    user should know of a disk that loses bytes.

    Raises:
        InputError: A file is damaged or missing; the message names it.
    """
    if file := damaged_file(folder):
        raise InputError(
            f"{file} is not as it was saved (see {folder / CHECKSUMS}): delete {folder} to have it "
            "made again"
        )


def identify(source: ModelSource) -> ModelId:
    """Pin a model's weights by a commit on the hub, or by a digest of the folder's files.

    Raises:
        InputError: Neither a model folder nor a hub id with a full commit as revision.
    """
    _check_path(source.path)
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
        dtype = _stored_dtype(source)
    for known in get_args(Dtype):
        if dtype == known:
            return known
    raise InputError(
        f"{source.path} is stored in {dtype}: set evaluation.dtype to one of "
        f"{', '.join(get_args(Dtype))}"
    )


def _stored_dtype(source: ModelSource) -> str:
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


def _refuse_other_weights(index: Path) -> None:
    """Refuse an index with shards that are not safetensors: transformers would unpickle them.

    Raises:
        InputError: The index is malformed or names such a shard.
    """
    if not index.is_file():
        return
    content = json.loads(index.read_text(encoding="utf-8"))
    shards = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(shards, dict):
        raise InputError(f"{index.name} has no weight_map")
    for name in shards.values():
        if not SHARD.fullmatch(str(name)):
            raise InputError(f"{index.name} names {name!r:.80}, which is no safetensors file of it")


def _check_path(path: str) -> None:
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


def refuse_full(folder: Path) -> None:
    """Refuse a folder with content; remove an empty one.

    Raises:
        InputError: The folder is not empty.
    """
    try:
        folder.rmdir()
    except FileNotFoundError:
        pass  # or another process has just removed it
    except OSError as error:
        raise InputError(f"{folder} is not empty: choose another --out") from error
