"""Python imports this at its start, in driver and workers: MFSPARK_MARK names a file by which a fit is held.

The second iteration writes the file and waits until it is gone, at most a minute; later fits and attempts do not.
"""

import os
import time
from pathlib import Path


def hold(mark):
    """Return a reporter of progress that holds the fit at its second iteration, once."""

    def hook(line, state):  # noqa: ARG001
        try:
            held = line.iteration == 2 and os.open(mark.with_suffix(".once"), os.O_CREAT | os.O_EXCL)
        except FileExistsError:
            return
        if held:
            mark.write_text("held")
            until = time.monotonic() + 60
            while mark.exists() and time.monotonic() < until:
                time.sleep(0.05)

    return lambda *options: hook  # noqa: ARG005


if os.environ.get("MFSPARK_MARK"):
    from mfspark.training import progress

    progress.reporter = hold(Path(os.environ["MFSPARK_MARK"]))
