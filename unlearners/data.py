"""Text that a method gets, and the windows of it that its loss sees."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from .errors import UnlearnerError

if TYPE_CHECKING:
    import torch

Side = Literal["forget", "retain"]
Document = str | tuple[str, ...]
"""A text, or its parts where tokens must end with them, as prompts and answers do."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class UnlearningData:
    """The text to unlearn from and the text to keep.

    Attributes:
        forget: documents of the forget set.
        retain: documents of the retain set; may be empty for methods without a retain loss.
    """

    forget: Sequence[Document]
    retain: Sequence[Document] = ()


@dataclasses.dataclass(frozen=True)
class Windows:
    """Training windows of one side, all of one length: there is no padding.

    Attributes:
        input_ids: (B, T) int64, also the labels.
        index: (B,) int64, positions of these windows among all of their side.
        side: the text they are cut from.
    """

    input_ids: torch.Tensor
    index: torch.Tensor
    side: Side


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
