"""Tasks that start together need a slot each: a job that waits for slots which have gone is ended, not waited for.

Spark counts the slots when a barrier stage is submitted, never again: where an executor is lost afterwards and none
takes its place, the stage waits for ever. Here a thread of the driver counts them for as long as the job runs.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pyspark import InheritableThread
from pyspark.sql import SparkSession

from mfspark.errors import TransportError
from mfspark.session import live_slots

PATIENCE = 90.0
"""Seconds for a cluster to replace what it has lost: a new executor takes some seconds, a new machine a minute."""
_REFUSED = "SPARK-24819"  # what Spark says of a barrier stage that is too large from the start


class SlotsLostError(TransportError):
    """Fewer tasks can run at once than a barrier stage has; ``slots`` is how many can."""

    def __init__(self, tasks: int, slots: int, seconds: float) -> None:
        super().__init__(
            f"the {tasks} tasks of a barrier stage run together, but for {seconds:g} s there were only {slots} slots: "
            "bring back the executors that were lost, or train with fewer blocks or loop='jobs'"
        )
        self.tasks, self.slots, self.seconds = tasks, slots, seconds

    def __reduce__(self) -> tuple[type, tuple[int, int, float]]:
        """Say how to pickle it: not by its message."""
        return SlotsLostError, (self.tasks, self.slots, self.seconds)


@contextmanager
def together(spark: SparkSession, tasks: int, patience: float = PATIENCE) -> Iterator[None]:
    """Run a job of tasks that start together, and end it where they no longer can.

    Over Connect slots cannot be counted, and nothing is watched.

    Parameters
    ----------
    spark : SparkSession
        The session that runs the job inside the ``with`` block.
    tasks : int
        How many tasks start together.
    patience : float
        Seconds that there may be too few slots.

    Raises
    ------
    SlotsLostError
        There were too few slots for so long; the job is cancelled.
    """
    if tasks <= 1 or live_slots(spark) is None:
        yield
        return
    context, tag = spark.sparkContext, f"mfspark-{uuid.uuid4().hex}"
    watch = _Watch(lambda: live_slots(spark), tasks, patience, lambda: context.cancelJobsWithTag(tag))
    context.addJobTag(tag)
    watch.start()
    try:
        yield
    except Exception as error:
        slots = live_slots(spark) if _REFUSED in str(error) else watch.lost
        if slots is None:
            raise
        raise SlotsLostError(tasks, slots, patience) from None
    finally:
        watch.stop()
        context.removeJobTag(tag)


class _Watch:
    """Counts slots in a thread of its own; cancels once there have been too few for too long.

    Parameters
    ----------
    count : callable
        Returns the slots there are now, or None.
    tasks, patience : int, float
        How many are needed, and for how many seconds they may be missing.
    cancel : callable
        Ends the job; called at every look from then on, since a job may not have started yet.
    """

    def __init__(
        self, count: Callable[[], int | None], tasks: int, patience: float, cancel: Callable[[], object]
    ) -> None:
        self.lost: int | None = None
        self._count, self._tasks, self._patience, self._cancel = count, tasks, patience, cancel
        self._ended = threading.Event()
        self._thread = InheritableThread(target=self._look)
        self._thread.daemon = True

    def start(self) -> None:
        """Begin to count."""
        self._thread.start()

    def stop(self) -> None:
        """Count no longer."""
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        enough = time.monotonic()
        while not self._ended.wait(min(2.0, self._patience / 10)):
            try:
                slots = self._count()
                if slots is None or slots >= self._tasks:
                    enough = time.monotonic()
                elif time.monotonic() - enough > self._patience:
                    self.lost = slots
                    self._cancel()
            except Exception:  # noqa: BLE001 - the session has ended, and the job with it
                return
