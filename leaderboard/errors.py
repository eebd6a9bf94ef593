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
"""Errors of the system about a path that cannot be used as it was given."""


def is_disk_full(error: BaseException | None) -> bool:
    """Whether an error, or one that it came from, is about a device without space.

    The writers of safetensors and of PyTorch have errors of their own for it.
    """
    while error is not None:
        number = getattr(error, "errno", None)
        if number in (errno.ENOSPC, errno.EDQUOT) or "No space left on device" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False
