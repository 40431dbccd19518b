"""pyspark's daemon of Python workers, without a traceback for every idle worker that Spark lets go.

Over Unix sockets (``mfspark.session``) a worker that finds its socket closed cannot say goodbye, and pyspark's daemon
prints that as an error, a minute after a stage or at the end of the program. Spark starts this module in its place
where ``spark.python.daemon.module`` names it; only pyspark may be imported here, before workers are forked.
"""

from __future__ import annotations

import sys
from typing import Any

from pyspark import daemon

_worker = daemon.worker


def worker(sock: Any, authenticated: bool) -> int:
    """Serve one task after another on a socket; return an exit code, 1 where the socket was closed."""
    try:
        return _worker(sock, authenticated)
    except BrokenPipeError:
        sys.unraisablehook = _unless_broken_pipe  # since Python 3.13 a file that cannot be flushed tells of it, too
        return 1


def _unless_broken_pipe(unraisable: Any) -> None:
    """Tell of an error that could not be raised, but not of a socket that was closed."""
    if not issubclass(unraisable.exc_type, BrokenPipeError):
        sys.__unraisablehook__(unraisable)


if __name__ == "__main__":
    daemon.worker = worker
    daemon.manager()
