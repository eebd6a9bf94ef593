"""Training windows, cut from text and paired as in MUSE (arXiv 2407.06460)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import Dataset

from ..data import Document, UnlearningData, Windows
from ..errors import UnlearnerError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FILLER = -1


def cut_windows(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[Document], length: int
) -> torch.Tensor:
    """Concatenate texts and cut them into windows.

    Every window begins with BOS if the tokenizer has one. The last window is completed from the
    first one, as in MUSE; a single short window is not.

    Args:
        tokenizer: Tokenizer of the model.
        texts: Documents, joined by blank lines.
        length: Tokens per window, BOS included.

    Returns:
        (N, length) int64, or (1, n) with n < length for short text; (0,) for no text.
    """
    ids = [
        token
        for part in _joined(texts)
        for token in tokenizer(part, add_special_tokens=False, verbose=False)["input_ids"]
    ]
    prefix = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    step = length - len(prefix)
    windows = [prefix + ids[i : i + step] for i in range(0, len(ids), step)]
    if len(windows) > 1:
        windows[-1] = (windows[-1] + windows[0])[:length]
    return torch.tensor(windows, dtype=torch.int64)


def _joined(texts: Sequence[Document]) -> Iterator[str]:
    """Yield the documents, joined by blank lines, in pieces that tokens must not span."""
    piece = ""
    for number, text in enumerate(texts):
        first, *others = (text,) if isinstance(text, str) else text
        piece += ("\n\n" if number else "") + first
        for part in others:
            yield piece
            piece = part
    yield piece


class ForgetRetainDataset(Dataset):
    """Shuffled forget windows; window i is paired with retain window i mod M, as in MUSE.

    The order of an epoch is a permutation fixed by the seed, the same on every process. Fillers
    without loss after it complete the last batch of every process.

    Args:
        forget: (N, T) int64, all forget windows.
        retain: (M, T) int64, all retain windows; None if the method does not need them.
        seed: Seed of the order.
        global_batch_size: Windows per forward pass over all processes.

    Attributes:
        forget: (N, T) int64, all forget windows.
        retain: (M, T) int64, the first retain windows, M <= N; None if not needed.
    """

    def __init__(
        self,
        forget: torch.Tensor,
        retain: torch.Tensor | None = None,
        *,
        seed: int = 0,
        global_batch_size: int = 1,
    ) -> None:
        self.forget = forget
        self.retain = None if retain is None else retain[: len(forget)]
        self._seed = seed
        self._fillers = -len(forget) % global_batch_size
        self.set_epoch(0)

    @classmethod
    def from_text(
        cls,
        tokenizer: PreTrainedTokenizerBase,
        data: UnlearningData,
        *,
        window: int,
        needs_retain: bool,
        seed: int,
        global_batch_size: int,
    ) -> ForgetRetainDataset:
        """Build the dataset from text.

        Args:
            tokenizer: Tokenizer of the model.
            data: Forget and retain text.
            window: Tokens per window.
            needs_retain: True if the method needs retain windows.
            seed: Seed of the order.
            global_batch_size: Windows per forward pass over all processes.

        Raises:
            UnlearnerError: A side that is needed has no text.
        """

        def cut(side: str, texts: Sequence[Document]) -> torch.Tensor:
            windows = cut_windows(tokenizer, texts, window)
            if windows.numel() < 2:
                raise UnlearnerError(f"the {side} text is empty; this method needs some")
            return windows

        forget = cut("forget", data.forget)
        retain = cut("retain", data.retain) if needs_retain else None
        return cls(forget, retain, seed=seed, global_batch_size=global_batch_size)

    def set_epoch(self, epoch: int) -> None:
        """Shuffle for an epoch; called by the data loader."""
        generator = torch.Generator().manual_seed(1_000_003 * self._seed + epoch)
        order = torch.randperm(len(self.forget), generator=generator).tolist()
        self._order = order + [FILLER] * self._fillers

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, position: int) -> int:
        return self._order[position]

    def collate(self, indices: list[int]) -> dict[str, Any]:
        """Collate one batch.

        Returns:
            ``count``, the number of windows with loss, and the fields of ``Batch``. A batch of
            fillers has window 0 and count 0, so that all processes make the same steps.
        """
        real = [index for index in indices if index != FILLER]
        index = torch.tensor(real or [0])
        sides = {"forget": Windows(self.forget[index], index, "forget")}
        if self.retain is not None:
            paired = index % len(self.retain)
            sides["paired"] = Windows(self.retain[paired], paired, "retain")
        return {"count": len(real)} | {name: vars(side) for name, side in sides.items()}
