"""Progress of long work on a terminal: one line an iteration with the loss and the time left."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TextIO

from mfspark.training.history import Iteration


def reporter(verbose: bool | None = None, stream: TextIO | None = None) -> Callable[[Iteration, int], None]:
    """Return a function that is told of every iteration.

    Parameters
    ----------
    verbose : bool, optional
        Whether to write; by default only when the stream is a terminal.
    stream : file, optional
        Where to, by default stderr.
    """
    out = stream or sys.stderr
    if not wanted(verbose, out):
        return _silent
    spent = [0.0]

    def tell(line: Iteration, total: int) -> None:
        spent[0] += line.seconds
        left = (total - line.iteration) * spent[0] / line.iteration
        rmse = "" if line.validation_rmse is None else f"  validation RMSE {line.validation_rmse:.4f}"
        out.write(f"iteration {line.iteration}/{total}  loss {line.loss:.6g}{rmse}  {left:.0f} s left\n")
        out.flush()

    return tell


def wanted(verbose: bool | None, stream: TextIO | None = None) -> bool:
    """Return whether progress is to be told: as asked for, by default on a terminal only."""
    return (stream or sys.stderr).isatty() if verbose is None else verbose


def _silent(line: Iteration, total: int) -> None:  # noqa: ARG001
    return
