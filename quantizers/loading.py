"""Complete loading: a checkpoint must hold every tensor of its model and no others."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedConfig, PreTrainedModel

REPORT: dict[str, Any] = {"output_loading_info": True, "ignore_mismatched_sizes": True}
"""Options of ``from_pretrained`` that make it report every tensor it did not load."""

FORMER_BUFFERS = re.compile(
    r"(^|\.)(masked_bias|causal_mask|inv_freq|position_ids)$|(^|\.)attn(\.attention)?\.bias$"
)
"""Masks and positions that old checkpoints store and models now compute."""

LONGEST_REASON = 500


def auto_class(config: PreTrainedConfig) -> Any:
    """Auto class that loads the checkpoint of a configuration whole.

    Some multimodal configurations are known to ``AutoModelForCausalLM`` too, which then loads the
    language model alone. It is chosen where the configuration names that class under
    ``architectures``.

    Args:
        config: of the checkpoint.

    Returns:
        ``AutoModelForMultimodalLM`` for a multimodal checkpoint, otherwise
        ``AutoModelForCausalLM``.
    """
    from transformers import AutoModelForCausalLM, AutoModelForMultimodalLM
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    text_only = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(config.model_type)
    named = text_only in (config.architectures or ())
    multimodal = type(config) in AutoModelForMultimodalLM._model_mapping
    whole = multimodal and not named and not config.is_encoder_decoder
    return AutoModelForMultimodalLM if whole else AutoModelForCausalLM


def load_language_model(
    path: str | Path, *, revision: str | None = None, **options: Any
) -> PreTrainedModel:
    """Load a causal language model, alone or in a multimodal checkpoint, as `load_complete` does.

    Args:
        path: folder or hub id.
        revision: commit, branch or tag on the hub.
        options: of ``from_pretrained``.

    Raises:
        ModelError: see `refuse_incomplete`.
    """
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(path, revision=revision, trust_remote_code=False)
    return load_complete(auto_class(config), path, revision=revision, **options)


def load_complete(auto_class: Any, path: str | Path, **options: Any) -> PreTrainedModel:
    """Load a model with transformers and refuse an incomplete checkpoint.

    Code that comes with a model is refused unless the options ask for it.

    Args:
        auto_class: class with transformers' ``from_pretrained``.
        path: folder or hub id.
        options: of ``from_pretrained``.

    Raises:
        ModelError: see `refuse_incomplete`.
    """
    with _conversion_errors():
        read = auto_class.from_pretrained(path, **{"trust_remote_code": False} | options | REPORT)
    return refuse_incomplete(*read)


@contextmanager
def _conversion_errors() -> Iterator[None]:
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


def one_line(error: BaseException) -> str:
    """First paragraph of an error's message as one line, or the name of its class."""
    paragraph = re.split(r"\n\s*\n", str(error).strip())[0]
    line = " ".join(paragraph.split()) or type(error).__name__
    return line if len(line) <= LONGEST_REASON else f"{line[: LONGEST_REASON - 1]}…"


def _count(names: Collection[str], kind: str) -> str:
    first = ", ".join(sorted(names)[:3])
    more = ", …" if len(names) > 3 else ""
    return f"{len(names)} {'tensor' if len(names) == 1 else 'tensors'} {kind}: {first}{more}"
