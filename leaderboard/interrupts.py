"""How a run is told to stop."""


class Stopped(BaseException):
    """Ctrl-C, or SIGTERM as a cluster's scheduler sends it before it takes a machine away.

    Not a ``KeyboardInterrupt``, which typer would answer by itself.
    """
