"""Several waits for the database at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pyspark.sql import SparkSession
from pyspark.util import inheritable_thread_target

# A small Delta commit is mostly waiting: a listing, two small files, a rename. More threads than this gain nothing.
THREADS = 6


def at_once(spark: SparkSession, actions: Sequence[Callable[[], Any]]) -> list[Any]:
    """Run actions in threads that keep this thread's job group and tags, and return their results in order.

    All have ended, well or badly, when this returns; the first error in their order is raised.
    """
    inherit: Callable[[Callable[[], Any]], Callable[[], Any]] = inheritable_thread_target(spark)
    with ThreadPoolExecutor(min(THREADS, max(1, len(actions)))) as pool:
        waiting = [pool.submit(inherit(action)) for action in actions]
    return [one.result() for one in waiting]
