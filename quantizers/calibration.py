"""Calibration text for quantizers: filtering, sampling, and a record of its origin."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import random
from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypeVar

from pydantic import Field, PositiveInt

from .base import Quantizer
from .errors import QuantizerError
from .overlap import NGRAM_WORDS, without_overlap

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Q = TypeVar("Q", bound="CalibratedQuantizer")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Calibration:
    """Calibration text as token ids, and its origin.

    Attributes:
        windows: Token ids of the samples, all of the same length.
        source: SHA-256 over all offered texts, in their order.
        texts: Number of texts offered.
        excluded_texts: Number of texts that no sample may overlap with.
        dropped: Number of texts that the overlap filter dropped.
        seed: Seed of the random sample.
    """

    windows: tuple[tuple[int, ...], ...]
    source: str
    texts: int
    excluded_texts: int
    dropped: int
    seed: int

    def to_dict(self) -> dict[str, Any]:
        """Return the origin of the text as JSON values, without the tokens."""
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
    """A quantizer that needs text: bind some with `calibrated`, then call the result on a model.

    Subclasses implement `quantize` instead of ``__call__``.

    Attributes:
        samples: Maximum number of windows to calibrate on; fewer if the text is shorter.
        window: Tokens per window, at least 2. A text shorter than one window is used whole.
        seed: Seed of the random sample of windows.
        file: Path of a file of calibration text (see `read_texts`), used instead of the caller's.
        calibration: The bound text; not a part of the configuration.
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
        """Bind calibration text.

        Args:
            tokenizer: Tokenizer of the model.
            texts: Text to sample from, such as the retain set; ignored if ``file`` is set.
            exclude: Forget and evaluation text. A text that shares 13 consecutive words with any
                of it is dropped.

        Returns:
            A copy of this quantizer, ready to be called on models.

        Raises:
            QuantizerError: There is no text, no text passes the filter, or the file cannot be
                read.
        """
        texts, exclude = read_texts(self.file) if self.file else list(texts), list(exclude)
        if not texts:
            raise QuantizerError(
                f"{type(self).__name__} got no calibration text; give it the retain set, or a "
                "file of texts (file=PATH)"
            )
        selected = without_overlap(texts, exclude)
        if not selected:
            raise QuantizerError(
                f"no calibration text is left: each of the {len(texts)} texts shares "
                f"{NGRAM_WORDS} consecutive words with forget or evaluation text; use another file"
            )
        source = hashlib.sha256()
        for text in texts:
            source.update(hashlib.sha256(text.encode()).digest())
        calibration = Calibration(
            windows=draw_windows(
                tokenizer, selected, samples=self.samples, window=self.window, seed=self.seed
            ),
            source=source.hexdigest(),
            texts=len(texts),
            excluded_texts=len(exclude),
            dropped=len(texts) - len(selected),
            seed=self.seed,
        )
        bound = copy.copy(self)
        object.__setattr__(bound, "calibration", calibration)  # the class is frozen
        return bound

    def __call__(self, model: PreTrainedModel) -> PreTrainedModel:
        """Quantize ``model`` with the bound calibration text.

        Raises:
            QuantizerError: No text is bound, its windows exceed the model's context, or
                `quantize` raises it.
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
        """Quantize a model.

        Args:
            model: Unquantized model. Its weights may be replaced in place.
            windows: Token ids to calibrate on, (samples, window).

        Returns:
            The quantized model.

        Raises:
            QuantizerError: Nothing in the model can be quantized, or its weights are not finite.
        """
        raise NotImplementedError


def read_texts(path: str | Path) -> list[str]:
    """Read texts from a file: a JSON list of strings or ``{"text": …}``, or one text per line.

    Args:
        path: File in UTF-8, JSON if it ends in ``.json``.

    Raises:
        QuantizerError: The file cannot be read, or is JSON of another form.
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


def draw_windows(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    samples: int,
    window: int,
    seed: int,
) -> tuple[tuple[int, ...], ...]:
    """Sample windows without replacement from the concatenated tokens of all texts.

    Args:
        tokenizer: Tokenizer of the model.
        texts: Texts, encoded one after the other.
        samples: Maximum number of windows.
        window: Tokens per window.
        seed: Seed of the sample.

    Returns:
        Windows of exactly ``window`` token ids, or one shorter window of all tokens if the texts
        are shorter than that.

    Raises:
        QuantizerError: The texts contain no token.
    """
    stream = array("q")
    for ids in tokenizer(list(texts), verbose=False)["input_ids"]:
        stream.extend(ids)
    if not stream:
        raise QuantizerError("the calibration texts hold no token")
    starts = range(0, max(len(stream) - window, 0) + 1, window)
    drawn = random.Random(seed).sample(starts, min(samples, len(starts)))
    return tuple(tuple(stream[start : start + window]) for start in drawn)
