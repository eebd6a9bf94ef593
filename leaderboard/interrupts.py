"""Interruption of a run by a signal."""


class Stopped(BaseException):
    """Raised on SIGINT (Ctrl-C) and on SIGTERM, which a cluster's scheduler sends.

    Not a ``KeyboardInterrupt``, which typer would handle itself.
    """
