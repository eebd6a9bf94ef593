"""Calibration text from a corpus, for quantizers that need it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from quantizers import CalibratedQuantizer, Quantizer

from .corpora import Corpus

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def with_calibration(
    quantizer: Quantizer,
    tokenizer: PreTrainedTokenizerBase,
    corpus: Corpus,
    forget: str,
    retain: str,
) -> Quantizer:
    """Bind a quantizer that needs calibration text to the retain set.

    Texts that share a 13-gram with forget or evaluation text are left out.

    Args:
        quantizer: Any quantizer; one that needs no text is returned unchanged.
        tokenizer: Tokenizer of the model.
        corpus: Corpus to read text from.
        forget: Split of the forget set, such as ``raw/forget``.
        retain: Split of the retain set, such as ``raw/retain1``.

    Raises:
        CorpusError: A split cannot be read.
        QuantizerError: No calibration text is left.
    """
    if not isinstance(quantizer, CalibratedQuantizer):
        return quantizer
    excluded = [
        *corpus.texts(forget),
        *(row["prompt"] + row["gt"] for row in corpus.split("verbmem", "forget")),
        *corpus.texts("privleak/forget"),
        *corpus.texts("privleak/holdout"),
        *(
            f"{row['question']} {row['answer']}"
            for split in ("forget_qa", "retain_qa")
            for row in corpus.split("knowmem", split)
        ),
    ]
    return quantizer.calibrated(tokenizer, corpus.texts(retain), exclude=excluded)


def calibration_facts(quantizer: Quantizer) -> dict[str, Any] | None:
    """Return the origin of a bound quantizer's calibration text; None without calibration."""
    calibration = getattr(quantizer, "calibration", None)
    return calibration.to_dict() if calibration else None
