"""Complete loading: a checkpoint must contain every tensor of its model and no others."""

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
"""Options of ``from_pretrained`` that report every tensor it did not load."""

FORMER_BUFFERS = re.compile(
    r"(^|\.)(masked_bias|causal_mask|inv_freq|position_ids)$|(^|\.)attn(\.attention)?\.bias$"
)
"""Masks and positions that old checkpoints contain and models now compute."""

LONGEST_REASON = 500


def auto_class(config: PreTrainedConfig) -> Any:
    """Return the auto class that loads the whole checkpoint of a configuration.

    ``AutoModelForCausalLM`` can load some multimodal configurations too, but only their language
    model. It is returned for these only if ``config.architectures`` names the text-only class.

    Args:
        config: Configuration of the checkpoint.

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
    """Load a text-only or multimodal causal language model with `load_complete`.

    Args:
        path: Folder or hub id.
        revision: Commit, branch or tag on the hub.
        **options: Options of ``from_pretrained``.

    Raises:
        ModelError: See `refuse_incomplete`.
    """
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(path, revision=revision, trust_remote_code=False)
    return load_complete(auto_class(config), path, revision=revision, **options)


def load_complete(auto_class: Any, path: str | Path, **options: Any) -> PreTrainedModel:
    """Load a model with transformers and refuse an incomplete checkpoint.

    Code from the checkpoint is not run unless the options say so.

    Args:
        auto_class: Class with transformers' ``from_pretrained``.
        path: Folder or hub id.
        **options: Options of ``from_pretrained``.

    Raises:
        ModelError: See `refuse_incomplete`.
    """
    with _conversion_errors():
        model, report = auto_class.from_pretrained(
            path, **{"trust_remote_code": False} | options | REPORT
        )
    return refuse_incomplete(model, report)


@contextmanager
def _conversion_errors() -> Iterator[None]:
    """Translate an error that transformers raises for an incomplete quantized layer.

    Raises:
        ModelError: A tensor is missing or damaged; transformers has printed its name.
    """
    try:
        yield
    except RuntimeError as error:
        # Raised when a missing tensor of bytes is to be filled with random numbers.
        if isinstance(error, NotImplementedError) or "automatic conversion" in str(error):
            raise ModelError(
                "tensors of a quantized layer are missing or damaged, see the load report above: "
                f"{one_line(error)}"
            ) from error
        raise


def refuse_incomplete(model: PreTrainedModel, report: Mapping[str, Any]) -> PreTrainedModel:
    """Return ``model`` if its checkpoint contains its tensors and no others.

    transformers fills a missing tensor with random numbers. Tied weights and computed buffers may
    be missing or present. A quantized checkpoint may contain further tensors of its format.

    Args:
        model: Model that ``from_pretrained`` returned.
        report: Its loading info, produced by the options in ``REPORT``.

    Raises:
        ModelError: Tensors are missing, unexpected or of another shape, or the checkpoint has an
            adapter, for which transformers reports nothing.
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
    problems = [_count(names, kind) for kind, names in groups.items() if names]
    if problems:
        raise ModelError(
            f"the checkpoint does not fit {type(model).__name__}: {'; '.join(problems)}. Save the "
            "model again with all its weights"
        )
    return model


def one_line(error: BaseException) -> str:
    """Return the first paragraph of an error's message as one line, or the name of its class."""
    paragraph = re.split(r"\n\s*\n", str(error).strip())[0]
    line = " ".join(paragraph.split()) or type(error).__name__
    return line if len(line) <= LONGEST_REASON else f"{line[: LONGEST_REASON - 1]}…"


def _count(names: Collection[str], kind: str) -> str:
    first = ", ".join(sorted(names)[:3])
    more = ", …" if len(names) > 3 else ""
    return f"{len(names)} {'tensor' if len(names) == 1 else 'tensors'} {kind}: {first}{more}"
