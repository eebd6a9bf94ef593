"""Checks on models and tokenizers, shared by ``hf-muse`` and the leaderboard."""

from __future__ import annotations

import copy
import functools
import importlib.util
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quantizers.errors import ModelError
from quantizers.loading import load_complete, one_line, refuse_incomplete
from quantizers.saving import QUANTIZER_FILE, read_quantizer
from unlearners import UnlearnerError

if TYPE_CHECKING:
    from types import ModuleType

    from lm_eval.api.model import LM
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

VOCABULARIES = (
    *("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt"),
    *("*.tiktoken", "tekken.json", "*bpe.model"),
)


@dataclass(frozen=True)
class CompleteLoader:
    """A transformers class with a ``from_pretrained`` that refuses an incomplete checkpoint."""

    auto_class: Any

    def from_pretrained(self, path: str, **options: Any) -> PreTrainedModel:
        """Load ``path`` with transformers' options.

        Raises:
            ModelError: See `quantizers.loading.refuse_incomplete`.
        """
        return load_complete(self.auto_class, path, **options)


@dataclass(frozen=True)
class RecordingLoader:
    """A transformers class with a ``from_pretrained`` that attaches its report to the model."""

    auto_class: Any

    def from_pretrained(self, path: str, **options: Any) -> PreTrainedModel:
        """Load ``path`` with transformers' options."""
        model, report = self.auto_class.from_pretrained(path, output_loading_info=True, **options)
        model.loading_report = report
        return model


def record_loading(huggingface: ModuleType) -> None:
    """Make lm-eval's ``hf`` keep the report of loading a model, for `refuse_incomplete_lm`.

    Args:
        huggingface: Lm-eval's module that defines ``HFLM``.
    """
    create = huggingface.HFLM._create_model

    @functools.wraps(create)
    def _create_model(self: Any, *args: Any, **kwargs: Any) -> None:
        own = self.AUTO_MODEL_CLASS
        if isinstance(own, type):  # not one of our loaders
            self.AUTO_MODEL_CLASS = RecordingLoader(own)
        try:
            create(self, *args, **kwargs)
        finally:
            self.AUTO_MODEL_CLASS = own

    huggingface.HFLM._create_model = _create_model


def refuse_incomplete_lm(lm: LM) -> None:
    """Refuse a model of lm-eval's ``hf`` that was loaded from an incomplete checkpoint.

    Raises:
        ModelError: See `quantizers.loading.refuse_incomplete`.
    """
    model: Any = getattr(lm, "model", None)
    if hasattr(model, "get_base_model"):
        model = model.get_base_model()
    report = getattr(model, "loading_report", None)
    if report is not None:
        refuse_incomplete(model, report)


def is_folder(path: Path) -> bool:
    """Return True if the folder exists; False also for an invalid name."""
    try:
        return path.is_dir()
    except (OSError, ValueError):  # too long, or with a null byte
        return False


def load_tokenizer(path: str, revision: str | None) -> PreTrainedTokenizerBase:
    """Load a tokenizer without running code of its repository.

    Args:
        path: Folder or hub id.
        revision: Commit, branch or tag on the hub.

    Returns:
        Tokenizer with a vocabulary that is not empty.

    Raises:
        ModelError: The tokenizer, or a library that it needs, is missing.
        OSError, ValueError: Transformers cannot read it.
    """
    from transformers import AutoTokenizer

    missing = f"{path} has no tokenizer: give `tokenizer:`, a folder or hub id that has one"
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, revision=revision, trust_remote_code=False)
    except Exception as error:  # transformers raises various errors on missing files
        folder = Path(path)
        if is_folder(folder) and not any(any(folder.glob(name)) for name in VOCABULARIES):
            raise ModelError(missing) from error
        is_named = re.search("sentencepiece|tiktoken", str(error), re.IGNORECASE)
        if is_named and importlib.util.find_spec("sentencepiece") is None:
            raise ModelError(
                f"the tokenizer of {path} needs sentencepiece: pip install sentencepiece"
            ) from error
        raise
    # without a vocabulary, transformers makes a tokenizer of special tokens alone
    if not tokenizer.get_vocab().keys() - set(tokenizer.all_special_tokens):
        raise ModelError(missing)
    return tokenizer


def refuse_adapter(path: str) -> None:
    """Refuse the folder of an adapter where a model is expected.

    Raises:
        ModelError: It is an adapter; the message says how to use it.
    """
    folder = Path(path)
    if not is_folder(folder) or (folder / "config.json").is_file():
        return
    if (folder / "adapter_config.json").is_file():
        raise ModelError(
            f"{path} is an adapter, not a model: merge it into its base model first "
            "(PEFT's merge_and_unload), or evaluate with lm_eval --model hf-muse --model_args "
            "pretrained=BASE,peft=ADAPTER"
        )


def refuse_rounded(path: str | None) -> None:
    """Refuse to train a folder of ``lm-eval-muse quantize``, since its weights are rounded.

    Raises:
        UnlearnerError: The weights were rounded to fewer than 16 bits.
    """
    if not path or not Path(path, QUANTIZER_FILE).is_file():
        return
    quantizer = read_quantizer(path)
    if quantizer.bits is not None and quantizer.bits < 16:
        raise UnlearnerError(
            f"{path} is quantized to {quantizer.bits:g} bits (see its {QUANTIZER_FILE}), its "
            "weights are rounded: unlearn the model that it was quantized from, then quantize the "
            "result"
        )


def repair_generation_config(model: PreTrainedModel) -> None:
    """Repair a generation configuration that transformers refuses to save.

    Some published configurations have a temperature or top_p but no ``do_sample``. They get
    ``do_sample=True`` and keep their values.

    Raises:
        ModelError: The configuration cannot be saved with ``do_sample=True`` either.
    """
    config = getattr(model, "generation_config", None)
    if config is None or _save_error(config) is None:
        return
    config = copy.deepcopy(config)
    config.do_sample = True
    if error := _save_error(config):
        raise ModelError(
            f"generation_config.json of {model.name_or_path or type(model).__name__} cannot be "
            f"saved again: {one_line(error)}"
        ) from error
    model.generation_config = config


def _save_error(config: Any) -> Exception | None:
    with tempfile.TemporaryDirectory() as folder:
        try:
            config.save_pretrained(folder)
        except ValueError as error:
            return error
    return None
