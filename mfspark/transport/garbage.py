"""The search for garbage after every task of a Python worker, made short."""

from __future__ import annotations

import gc
import sys

_modules = 0  # how many had been imported when objects were last set apart


def set_modules_apart() -> None:
    """Leave what there is out of a worker's searches for garbage, where modules were imported since this was last done.

    After every task pyspark goes through all objects of the process, and with numba and pandas imported that takes
    longer than a small task: 50 to 100 ms. In other processes than Spark's workers nothing is done.
    """
    global _modules  # noqa: PLW0603 - what the process has imported belongs to the process
    if len(sys.modules) != _modules and "pyspark.worker" in sys.modules:
        gc.collect()
        gc.freeze()
        _modules = len(sys.modules)
