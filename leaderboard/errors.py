"""Errors that the user can fix: shown as one line, exit code 2."""

from __future__ import annotations

import errno

from harness_tasks.errors import CorpusError, RequestError
from quantizers import QuantizerError
from unlearners import UnlearnerError


class InputError(ValueError):
    """A setting, file or folder the user gave cannot be used; the message is one line."""


USER_ERRORS = (InputError, CorpusError, RequestError, QuantizerError, UnlearnerError)
PATH_ERRORS = {
    *(errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR),
    *(errno.EACCES, errno.EPERM, errno.EROFS),
}
"""System errors about a path that cannot be used."""


def is_disk_full(error: BaseException | None) -> bool:
    """Tell whether an error, or one of its causes, is about a full disk.

    The writers of safetensors and of PyTorch have errors of their own for it.
    """
    while error is not None:
        number = getattr(error, "errno", None)
        if number in (errno.ENOSPC, errno.EDQUOT) or "No space left on device" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False
