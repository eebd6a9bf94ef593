"""Text of an unlearning run, and the windows of it that a loss gets."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from .errors import UnlearnerError

if TYPE_CHECKING:
    import torch

Side = Literal["forget", "retain"]
Document = str | tuple[str, ...]
"""A text, or a tuple of its parts if no token may span two of them, as with question and answer."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class UnlearningData:
    """The text to unlearn from and the text to keep.

    Attributes:
        forget: Documents of the forget set.
        retain: Documents of the retain set; may be empty for methods without a retain loss.
    """

    forget: Sequence[Document]
    retain: Sequence[Document] = ()


@dataclasses.dataclass(frozen=True)
class Windows:
    """Training windows of one side, all of one length, without padding.

    Attributes:
        input_ids: (B, T) int64, token ids and labels.
        index: (B,) int64, positions of these windows among all windows of their side.
        side: Text from which they are cut.
    """

    input_ids: torch.Tensor
    index: torch.Tensor
    side: Side


@dataclasses.dataclass(frozen=True)
class Batch:
    """Forget windows of a forward pass, and the retain windows paired with them.

    Attributes:
        forget: Forget windows.
        paired: Retain windows; None if the method does not need them.
    """

    forget: Windows
    paired: Windows | None = None

    @property
    def retain(self) -> Windows:
        """Retain windows, as many as forget windows.

        Raises:
            UnlearnerError: The method's ``needs`` does not declare them.
        """
        if self.paired is None:
            raise UnlearnerError("the loss reads retain windows: declare 'retain' in needs")
        return self.paired
