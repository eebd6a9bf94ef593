"""Calibration text for the quantizers that need some, from a corpus."""

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
    """Bind a quantizer that needs text to the retain set; any other is returned as it is.

    Texts that share a 13-gram with what is forgotten or evaluated are left out: calibration
    must not see them.
    """
    if not isinstance(quantizer, CalibratedQuantizer):
        return quantizer
    hidden = [
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
    return quantizer.calibrated(tokenizer, corpus.texts(retain), exclude=hidden)


def calibration_facts(quantizer: Quantizer) -> dict[str, Any] | None:
    """What a bound quantizer was calibrated on, for the record."""
    calibration = getattr(quantizer, "calibration", None)
    return calibration.to_dict() if calibration else None
