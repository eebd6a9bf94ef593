"""Checks on loading a model, shared by ``hf-muse`` and the leaderboard."""

from __future__ import annotations

import copy
import importlib.util
import re
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quantizers import Quantizer
from quantizers.saving import QUANTIZER_FILE, load_quantized, read_quantizer
from unlearners import UnlearnerError

from .corpora import is_folder

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

REPORT: dict[str, Any] = {"output_loading_info": True, "ignore_mismatched_sizes": True}
"""Options of ``from_pretrained`` that make it report every tensor it did not load."""

FORMER_BUFFERS = re.compile(
    r"(^|\.)(masked_bias|causal_mask|inv_freq|position_ids)$|(^|\.)attn(\.attention)?\.bias$"
)
"""Masks and positions that old checkpoints store and models now compute."""

VOCABULARIES = (
    *("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt"),
    *("*.tiktoken", "tekken.json", "*bpe.model"),
)
LONGEST_REASON = 500


class ModelError(ValueError):
    """A model cannot be loaded or saved as it is; the message is one line."""


@dataclass(frozen=True)
class CompleteLoader:
    """A transformers class whose ``from_pretrained`` refuses an incomplete checkpoint."""

    auto_class: Any

    def from_pretrained(self, path: str, **options: Any) -> PreTrainedModel:
        """Load ``path`` with the options of transformers.

        Raises:
            ModelError: see `refuse_incomplete`.
        """
        with conversion_errors():
            read = self.auto_class.from_pretrained(path, **options | REPORT)
        return refuse_incomplete(*read)


@contextmanager
def conversion_errors() -> Iterator[None]:
    """Explain an error that transformers raises on an incomplete quantized layer.

    Raises:
        ModelError: transformers has printed the names.
    """
    try:
        yield
    except RuntimeError as error:
        # random numbers are not implemented for bytes
        if isinstance(error, NotImplementedError) or "automatic conversion" in str(error):
            raise ModelError(
                "tensors of a quantized layer are missing or damaged, see the load report above: "
                f"{one_line(error)}"
            ) from error
        raise


def refuse_incomplete(model: PreTrainedModel, report: Mapping[str, Any]) -> PreTrainedModel:
    """Return ``model`` if its checkpoint holds its tensors and no others.

    transformers fills a missing tensor with random numbers. Tied weights and buffers that the
    model computes may be missing or present. A model of a quantized format may come with further
    tensors of that format.

    Args:
        model: as ``from_pretrained`` returned it.
        report: its loading info, made with the options of ``REPORT``.

    Returns:
        the model.

    Raises:
        ModelError: naming the first tensors that are missing, unexpected or of another shape, or
            the checkpoint has an adapter, which hides what is missing.
    """
    if getattr(model, "_hf_peft_config_loaded", False):
        raise ModelError(
            "it has adapter_config.json: merge the adapter into the model first, or remove that "
            "file to load the model without it"
        )
    unexpected = {name for name in report["unexpected_keys"] if not FORMER_BUFFERS.search(name)}
    if getattr(model, "is_quantized", False):
        unexpected = set()
    mismatched = [
        f"{name} (checkpoint {tuple(stored)}, model {tuple(expected)})"
        for name, stored, expected in report["mismatched_keys"]
    ]
    groups = {
        "missing": report["missing_keys"],
        "unexpected": unexpected,
        "of another shape": mismatched,
    }
    found = [_count(names, kind) for kind, names in groups.items() if names]
    if found:
        raise ModelError(
            f"the checkpoint does not fit {type(model).__name__}: {'; '.join(found)}. Save the "
            "model again with all its weights"
        )
    return model


def load_quantized_folder(folder: str) -> PreTrainedModel:
    """Load a folder of ``lm-eval-muse quantize``, whose checkpoint must be complete.

    Raises:
        ModelError: a tensor is missing, unexpected or of another shape.
        QuantizerError: the quantizer is not installed, or its weights do not fit.
        ValueError: the model needs code of its own.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    # Formats of their own are checked by the quantizer. transformers reads the others, and its
    # report is lost in `Quantizer.load`.
    if type(read_quantizer(folder)).save is Quantizer.save:
        # bitsandbytes cannot load onto the meta device, which would read no weights
        packed = hasattr(config, "quantization_config")
        options: dict[str, Any] = {} if packed else {"device_map": "meta"}
        with conversion_errors():
            read: Any = AutoModelForCausalLM.from_pretrained(
                folder, use_safetensors=True, trust_remote_code=False, **REPORT, **options
            )
        refuse_incomplete(*read)
        del read
    return load_quantized(folder)


def load_tokenizer(place: str, revision: str | None) -> PreTrainedTokenizerBase:
    """Load a tokenizer, without code of its own.

    Args:
        place: folder or hub id.
        revision: commit, branch or tag on the hub.

    Returns:
        the tokenizer, whose vocabulary is not empty.

    Raises:
        ModelError: there is none, or the library that reads it is missing.
        OSError, ValueError: transformers cannot read it.
    """
    from transformers import AutoTokenizer

    none = f"{place} has no tokenizer: give `tokenizer:`, a folder or hub id that has one"
    try:
        tokenizer = AutoTokenizer.from_pretrained(place, revision=revision, trust_remote_code=False)
    except Exception as error:  # transformers' tokenizers raise anything on missing files
        folder = Path(place)
        if is_folder(folder) and not any(any(folder.glob(name)) for name in VOCABULARIES):
            raise ModelError(none) from error
        missing = importlib.util.find_spec("sentencepiece") is None
        if missing and re.search("sentencepiece|tiktoken", str(error), re.IGNORECASE):
            raise ModelError(
                f"the tokenizer of {place} needs sentencepiece: pip install sentencepiece"
            ) from error
        raise
    # transformers makes up a tokenizer of special tokens alone where a folder has no vocabulary
    if not tokenizer.get_vocab().keys() - set(tokenizer.all_special_tokens):
        raise ModelError(none)
    return tokenizer


def refuse_adapter(path: str) -> None:
    """Refuse the folder of an adapter in place of a model.

    Raises:
        ModelError: with what to do.
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
    """Refuse to train what ``lm-eval-muse quantize`` wrote: its weights are rounded.

    Raises:
        UnlearnerError: naming the quantizer, where it has fewer than 16 bits.
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
    """Make the model's generation configuration one that transformers agrees to save.

    Some published configurations have a temperature or top_p but no ``do_sample``. They get
    ``do_sample=True`` and keep their values.

    Raises:
        ModelError: it cannot be saved with ``do_sample=True`` either.
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


def one_line(error: BaseException) -> str:
    """First paragraph of an error's message as one line, or the name of its class."""
    paragraph = re.split(r"\n\s*\n", str(error).strip())[0]
    line = " ".join(paragraph.split()) or type(error).__name__
    return line if len(line) <= LONGEST_REASON else f"{line[: LONGEST_REASON - 1]}…"


def _count(names: Collection[str], kind: str) -> str:
    first = ", ".join(sorted(names)[:3])
    more = ", …" if len(names) > 3 else ""
    return f"{len(names)} {'tensor' if len(names) == 1 else 'tensors'} {kind}: {first}{more}"


def _save_error(config: Any) -> Exception | None:
    with tempfile.TemporaryDirectory() as folder:
        try:
            config.save_pretrained(folder)
        except ValueError as error:
            return error
    return None
