"""Text to training windows, cut and paired as MUSE does (arXiv 2407.06460)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import Dataset

from .base import UnlearnerError, UnlearningData

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclasses.dataclass(frozen=True)
class Windows:
    """Training windows of one side, all of one length: there is no padding.

    Attributes:
        input_ids: (B, T) int64, also the labels.
        index: (B,) int64, which windows of the side these are.
    """

    input_ids: torch.Tensor
    index: torch.Tensor

    def __len__(self) -> int:
        return len(self.index)


@dataclasses.dataclass(frozen=True)
class Batch:
    """Forget windows and, for methods that need them, the retain windows paired with them."""

    forget: Windows
    paired: Windows | None = None

    @property
    def retain(self) -> Windows:
        """The retain windows.

        Raises:
            UnlearnerError: the method's ``needs`` does not declare them.
        """
        if self.paired is None:
            raise UnlearnerError("the loss reads retain windows: declare 'retain' in needs")
        return self.paired

    @classmethod
    def from_tensors(cls, tensors: dict[str, dict[str, torch.Tensor]]) -> Batch:
        """From what the data loader yields."""
        return cls(**{side: Windows(**fields) for side, fields in tensors.items()})


def cut_windows(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], length: int
) -> torch.Tensor:
    """Concatenate the texts and cut windows of ``length`` tokens.

    Every window begins with BOS where the tokenizer has one. The last one is filled up from the
    first, as in MUSE; a single short window stays short.

    Returns:
        (N, length) int64, or (1, n) with n < length.
    """
    text = "\n\n".join(texts)
    ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    prefix = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    step = length - len(prefix)
    windows = [prefix + ids[i : i + step] for i in range(0, len(ids), step)]
    if len(windows) > 1:
        windows[-1] = (windows[-1] + windows[0])[:length]
    return torch.tensor(windows, dtype=torch.int64)


class ForgetRetainDataset(Dataset):
    """Forget window i with retain window i mod N_retain, as in MUSE.

    Attributes:
        forget: (N, T) int64.
        retain: (M, T) int64, only those that are paired: M <= N.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        data: UnlearningData,
        *,
        window: int,
        needs_retain: bool,
    ) -> None:
        self.forget = self._windows(tokenizer, data.forget, window, "forget")
        self.retain = None
        if needs_retain:
            retain = self._windows(tokenizer, data.retain, window, "retain")
            self.retain = retain[: len(self.forget)]

    @staticmethod
    def _windows(
        tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], window: int, side: str
    ) -> torch.Tensor:
        windows = cut_windows(tokenizer, texts, window)
        if windows.numel() < 2:
            raise UnlearnerError(f"the {side} text is empty; this method needs some")
        return windows

    def __len__(self) -> int:
        return len(self.forget)

    def __getitem__(self, index: int) -> int:
        return index

    def collate(self, indices: list[int]) -> dict[str, dict[str, Any]]:
        """Forget and retain windows of these indices, as ``Batch.from_tensors`` takes them."""
        index = torch.tensor(indices)
        batch = {"forget": {"input_ids": self.forget[index], "index": index}}
        if self.retain is not None:
            paired = index % len(self.retain)
            batch["paired"] = {"input_ids": self.retain[paired], "index": paired}
        return batch
