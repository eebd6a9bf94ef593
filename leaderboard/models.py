"""Models as Hugging Face folders: loading, saving, and what identifies their weights."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

from harness_tasks.cache import build_once
from harness_tasks.corpora import is_folder
from unlearners.checksums import CHECKSUMS, damaged_file, write_checksums

from .cell import ModelId
from .config import ModelSource
from .errors import InputError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

COMMIT = re.compile(r"[0-9a-f]{40}")
SHARD = re.compile(r"[\w-][\w.-]*\.safetensors")
HUB_ID = re.compile(r"(?=.{1,96}$)[\w-][\w.-]*(/[\w-][\w.-]*)?")


def load_model(
    path: str,
    *,
    revision: str | None = None,
    tokenizer: str | None = None,
    dtype: str | torch.dtype = "auto",
    device: str | None = None,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a causal language model and its tokenizer, quantized ones of ours included.

    Pickled weights are refused.

    Args:
        path: a folder or a hub id.
        revision: commit, branch or tag on the hub.
        tokenizer: folder or hub id of the tokenizer, where it is not the model's.
        dtype: of the weights; ``auto`` is the checkpoint's own.
        device: where the model goes; the first GPU, or the CPU, where left out.

    Raises:
        InputError: no model or tokenizer can be loaded from there.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import SAFE_WEIGHTS_INDEX_NAME

    from quantizers.saving import QUANTIZER_FILE, load_quantized

    _check_place(path)
    try:
        _refuse_other_weights(Path(path, SAFE_WEIGHTS_INDEX_NAME))
        loaded = AutoTokenizer.from_pretrained(
            tokenizer or path, revision=None if tokenizer else revision
        )
        if Path(path, QUANTIZER_FILE).is_file():
            model = load_quantized(path)
        else:
            model = AutoModelForCausalLM.from_pretrained(
                path, revision=revision, dtype=dtype, use_safetensors=True
            )
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(f"no model can be loaded from {path}: {reason}") from error
    place = device or ("cuda" if torch.cuda.is_available() else "cpu")
    torch.nn.Module.to(model, place)
    return model.eval(), loaded


def save_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> Path:
    """Save model and tokenizer as a Hugging Face folder with checksums, whole or not at all."""

    def write(temporary: Path) -> None:
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        write_checksums(temporary)

    return build_once(folder, write)


def refuse_damaged(folder: Path) -> None:
    """Refuse a folder whose files are not as they were saved.

    What was trained is not trained again by itself: its records stand beside those that would
    come from the new weights, and a disk that loses bytes is something its owner wants to know.

    Raises:
        InputError: naming the file.
    """
    if file := damaged_file(folder):
        raise InputError(
            f"{file} is not as it was saved (see {folder / CHECKSUMS}): delete {folder} to have it "
            "made again"
        )


def identify(source: ModelSource) -> ModelId:
    """What pins a model's weights: a commit on the hub, or a digest of the folder's files.

    Raises:
        InputError: neither a model folder nor a hub id with a full commit as revision.
    """
    _check_place(source.path)
    folder = Path(source.path)
    if folder.is_dir():
        weights = sorted(folder.glob("*.safetensors"))
        if not weights:
            raise InputError(f"{folder} is not a model folder: it has no *.safetensors")
        digest = hashlib.sha256()
        for path in (folder / "config.json", *weights):
            with path.open("rb") as handle:
                while chunk := handle.read(2**20):
                    digest.update(chunk)
        return ModelId(name=folder.name, revision=f"sha256:{digest.hexdigest()[:16]}")
    if not source.revision or not COMMIT.fullmatch(source.revision):
        raise InputError(
            f"{source.path}: a model on the hub needs `revision:` with its full commit, so that "
            f"records say which weights they are about; found {source.revision!r}"
        )
    return ModelId(name=source.path, revision=source.revision)


def _refuse_other_weights(index: Path) -> None:
    """Refuse shards that are no safetensors beside their index: transformers would unpickle them.

    Raises:
        InputError: naming the first.
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


def _check_place(path: str) -> None:
    """Refuse what is neither a model folder nor shaped like a hub id, before asking the hub."""
    if is_folder(Path(path)):
        if not Path(path, "config.json").is_file():
            raise InputError(f"{path} is not a model folder: it has no config.json")
    elif not HUB_ID.fullmatch(path) or Path(path).exists():
        raise InputError(f"{path}: no such model folder")
