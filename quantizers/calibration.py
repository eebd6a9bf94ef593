"""Calibration text for the quantizers that need it: filtered, drawn, and accounted for."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import random
import re
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypeVar

from pydantic import Field, PositiveInt

from .base import Quantizer
from .errors import QuantizerError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

NGRAM_WORDS = 13
Q = TypeVar("Q", bound="CalibratedQuantizer")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Calibration:
    """Text on which a quantizer is calibrated, as token ids, and where it came from.

    Attributes:
        windows: The samples, token ids, all of the same length.
        source: SHA-256 over all texts that were offered, in their order.
        texts: Number of texts offered.
        excluded_texts: Number of texts with which none of the samples may overlap.
        dropped: Number of texts that the overlap filter dropped.
        seed: Seed of the draw.
    """

    windows: tuple[tuple[int, ...], ...]
    source: str
    texts: int
    excluded_texts: int
    dropped: int
    seed: int

    def to_dict(self) -> dict[str, Any]:
        """Origin of the text as JSON values, without the tokens."""
        return {
            "source": f"sha256:{self.source}",
            "texts": self.texts,
            "excluded_texts": self.excluded_texts,
            "dropped": self.dropped,
            "samples": len(self.windows),
            "window": len(self.windows[0]),
            "seed": self.seed,
        }


@dataclasses.dataclass(frozen=True, kw_only=True)
class CalibratedQuantizer(Quantizer):
    """A quantizer that looks at text: give it some with `calibrated`, then call it on a model.

    Subclasses implement `quantize` instead of ``__call__``; one with a ``__post_init__`` of its
    own calls this one's first.

    Attributes:
        samples: Number of windows to calibrate on; fewer where the text holds no more.
        window: Tokens per window; a single shorter one where the text is shorter.
        seed: Seed of the draw.
        file: Where calibration text is read from (see `read_texts`) instead of the caller's.
        calibration: The text, once bound; no part of the configuration.
    """

    samples: PositiveInt = 128
    window: Annotated[int, Field(ge=2)] = 512
    seed: int = 0
    file: str | None = None
    calibration: ClassVar[Calibration | None] = None

    def calibrated(
        self: Q,
        tokenizer: PreTrainedTokenizerBase,
        texts: Iterable[str] = (),
        *,
        exclude: Iterable[str] = (),
    ) -> Q:
        """This quantizer with calibration text, ready to be called on models.

        Args:
            tokenizer: The model's.
            texts: Text to draw from, such as the retain set; ignored where ``file`` is set.
            exclude: Forget and evaluation text. A text that shares 13 consecutive words with any
                of it is dropped.

        Raises:
            QuantizerError: there is no text, nothing of it is left, or the file cannot be read.
        """
        texts, exclude = read_texts(self.file) if self.file else list(texts), list(exclude)
        if not texts:
            raise QuantizerError(
                f"{type(self).__name__} got no calibration text; give it the retain set, or a "
                "file of texts (file=PATH)"
            )
        kept = without_overlap(texts, exclude)
        if not kept:
            raise QuantizerError(
                f"no calibration text is left: each of the {len(texts)} texts shares "
                f"{NGRAM_WORDS} consecutive words with forget or evaluation text; use another file"
            )
        source = hashlib.sha256()
        for text in texts:
            source.update(hashlib.sha256(text.encode()).digest())
        calibration = Calibration(
            windows=draw_windows(
                tokenizer, kept, samples=self.samples, window=self.window, seed=self.seed
            ),
            source=source.hexdigest(),
            texts=len(texts),
            excluded_texts=len(exclude),
            dropped=len(texts) - len(kept),
            seed=self.seed,
        )
        bound = copy.copy(self)
        object.__setattr__(bound, "calibration", calibration)  # the class is frozen
        return bound

    def __call__(self, model: PreTrainedModel) -> PreTrainedModel:
        """Quantize ``model`` with the bound calibration text.

        Raises:
            QuantizerError: no text is bound, its windows exceed the model's context, or as
                `quantize`.
        """
        if self.calibration is None:
            raise QuantizerError(
                f"{type(self).__name__} needs calibration text: bind it with "
                "quantizer.calibrated(tokenizer, texts) and call what that returns"
            )
        from .architecture import context_length

        context = context_length(model)
        length = len(self.calibration.windows[0])
        if context is not None and length > context:
            raise QuantizerError(
                f"calibration windows of {length} tokens exceed the model's context of {context}; "
                f"set window={context} or less"
            )
        return self.quantize(model, self.calibration.windows)

    def quantize(self, model: PreTrainedModel, windows: Sequence[Sequence[int]]) -> PreTrainedModel:
        """Return ``model`` quantized; it may be consumed.

        Args:
            model: The model.
            windows: Token ids to calibrate on, samples × window.

        Raises:
            QuantizerError: nothing in the model can be quantized, or its weights are not finite.
        """
        raise NotImplementedError


def read_texts(path: str | Path) -> list[str]:
    """Texts of a file: a JSON list of strings or ``{"text": …}``, else one text a line.

    Raises:
        QuantizerError: it cannot be read, or is JSON of another kind.
    """
    path = Path(path)
    try:
        content = path.read_text(encoding="utf-8")
        if path.suffix != ".json":
            return [line for line in content.splitlines() if line.strip()]
        rows = [row["text"] if isinstance(row, dict) else row for row in json.loads(content)]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise QuantizerError(f"calibration file {path} cannot be read: {error!r}") from error
    if not all(isinstance(row, str) for row in rows):
        raise QuantizerError(
            f"calibration file {path} must be a list of texts, or of objects with a 'text'"
        )
    return rows


def without_overlap(
    texts: Iterable[str], exclude: Iterable[str], words: int = NGRAM_WORDS
) -> list[str]:
    """The texts of which no ``words`` consecutive words occur in any text of ``exclude``.

    Words are runs of letters, digits and underscores, in lower case. A text of fewer words
    overlaps with nothing.
    """
    # Hashes, for memory: among a million n-grams, one in 10^7 runs drops a text too many.
    seen = {hash(ngram) for text in exclude for ngram in _ngrams(text, words)}
    return [text for text in texts if seen.isdisjoint(map(hash, _ngrams(text, words)))]


def draw_windows(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    samples: int,
    window: int,
    seed: int,
) -> tuple[tuple[int, ...], ...]:
    """Draw windows without replacement from the texts, encoded one after the other.

    Returns:
        At most ``samples`` windows of exactly ``window`` token ids; where all texts together are
        shorter than one, all of them as a single window.

    Raises:
        QuantizerError: the texts hold no token.
    """
    stream = array("q")
    for ids in tokenizer(list(texts), verbose=False)["input_ids"]:
        stream.extend(ids)
    if not stream:
        raise QuantizerError("the calibration texts hold no token")
    starts = range(0, max(len(stream) - window, 0) + 1, window)
    drawn = random.Random(seed).sample(starts, min(samples, len(starts)))
    return tuple(tuple(stream[start : start + window]) for start in drawn)


def _ngrams(text: str, words: int) -> Iterator[tuple[str, ...]]:
    found = re.findall(r"\w+", text.lower())
    return zip(*(found[start:] for start in range(words)), strict=False)
