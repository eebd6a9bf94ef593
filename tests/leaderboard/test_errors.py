"""Errors of the system."""

import errno
import os

from leaderboard.errors import is_disk_full


def test_a_device_without_space_is_found_in_the_chain() -> None:
    assert is_disk_full(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    assert is_disk_full(ValueError("I/O error: No space left on device (os error 28)"))
    assert not is_disk_full(OSError(errno.ENOENT, "no such file"))
    assert not is_disk_full(None)
