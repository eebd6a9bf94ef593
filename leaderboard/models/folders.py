"""Hugging Face model folders: load and save models."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from harness_tasks.cache import build_once, temporary_prefix
from harness_tasks.loading import load_tokenizer, repair_generation_config
from quantizers.errors import ModelError
from quantizers.loading import load_language_model, one_line
from quantizers.saving import QUANTIZER_FILE, load_quantized
from unlearners.files import CHECKSUMS, damaged_file, write_checksums

from ..config import ModelSource
from ..errors import InputError, is_disk_full
from .identity import check_path, stored_dtype

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

PROCESSOR_FILES = (
    "preprocessor_config.json",
    "processor_config.json",
    "image_processor_config.json",
    "video_preprocessor_config.json",
    "feature_extractor_config.json",
    "chat_template.json",
)
"""Files of a multimodal model that belong neither to its weights nor to its tokenizer."""
SHARD = re.compile(r"[\w-][\w.-]*\.safetensors")
LOADING_ERRORS = (OSError, ValueError, KeyError, ImportError, RuntimeError)


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

    check_path(path)
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
    stored, found = stored_dtype(source), str(model.dtype).removeprefix("torch.")
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
