"""Progress of long fits, by ``logging``: the stage, the iteration, its loss and the time left.

The library stays quiet unless somebody listens: every iteration is told on a terminal or with ``verbose=True``, and one
line at most every 10 s to a logger "mfspark.training" that the program has set to INFO.
"""

from __future__ import annotations

import logging
import sys
import time
from typing import Any, TextIO

from mfspark.training.history import Iteration
from mfspark.training.loop import Hook

LOGGER = logging.getLogger("mfspark.training")
PATIENCE = 10.0  # seconds between two lines of a log


def pace(verbose: bool | None = None, stream: TextIO | None = None) -> float | None:
    """Return the seconds between two lines of progress, 0 for every iteration, or None for silence.

    Parameters
    ----------
    verbose : bool, optional
        Whether to tell every iteration; by default on a terminal, and else now and then where the logger is on.
    stream : file, optional
        What may be a terminal, by default stderr.
    """
    if verbose is not None:
        return 0.0 if verbose else None
    if logging.getLogger("mfspark").level > logging.INFO:  # somebody wants less than that, on a terminal too
        return None
    if (stream or sys.stderr).isatty():
        return 0.0
    return PATIENCE if LOGGER.isEnabledFor(logging.INFO) else None


def reporter(total: int, every: float | None, stage: str = "", stream: TextIO | None = None) -> Hook:
    """Return the hook that tells of iterations.

    Parameters
    ----------
    total : int
        How many iterations there are at most.
    every : float, optional
        From ``pace``.
    stage : str
        What is under way, such as the estimator's name.
    stream : file, optional
        Where to, by default the logger "mfspark.training" where it is on, else stderr.
    """
    if every is None:
        return _silent
    spent: list[float] = []
    told = [time.monotonic()]

    def tell(line: Iteration, _state: Any) -> None:
        spent.append(line.seconds)
        now = time.monotonic()
        if now - told[0] >= every:
            told[0] = now
            left = (total - line.iteration) * sum(spent) / len(spent)
            error = "" if line.validation_rmse is None else f"  validation RMSE {line.validation_rmse:.4f}"
            _say(
                f"{stage}{'  ' if stage else ''}iteration {line.iteration}/{total}  loss {line.loss:.6g}{error}  "
                f"{left:.0f} s left",
                stream,
            )

    return tell


def _say(text: str, stream: TextIO | None) -> None:
    """Log where somebody has set up logging; else write it, as asked for by ``verbose`` or on a terminal."""
    if stream is None and LOGGER.isEnabledFor(logging.INFO) and LOGGER.hasHandlers():
        LOGGER.info(text)
        return
    out = stream or sys.stderr
    out.write(text + "\n")
    out.flush()


def _silent(line: Iteration, state: Any) -> None:  # noqa: ARG001
    return
