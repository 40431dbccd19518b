"""The command line of every job: arguments in, a report on stdout, one line on stderr for an error, an exit code."""

from __future__ import annotations

import argparse
import logging
import sys
import traceback
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Protocol

from pyspark.errors import AnalysisException, PySparkException
from pyspark.sql import SparkSession

from mfspark.config import Config, load
from mfspark.config.listing import listed_keys
from mfspark.errors import MFSparkError, TrainingError, without_secret
from mfspark.pipeline.small import settings_for
from mfspark.session import is_connect, spark_session
from mfspark.store.tables import one_line

OK, FAILED, BAD_INPUT = 0, 1, 2


class Report(Protocol):
    """What a job returns."""

    @property
    def run_id(self) -> str:
        """The run id."""

    @property
    def tables(self) -> tuple[str, ...]:
        """The addresses of the tables it wrote."""

    def lines(self) -> list[str]:
        """Return the report as lines of text."""


Job = Callable[[SparkSession, Config, str], Report]


def run_jobs(name: str, jobs: Sequence[Job], argv: Sequence[str] | None = None) -> int:
    """Run jobs one after the other with one configuration and one run id.

    Parameters
    ----------
    name : str
        The command's name.
    jobs : sequence of callable
        ``job(spark, config, run_id)`` returns a `Report`.
    argv : sequence of str, optional
        Default: the process's arguments.

    Returns
    -------
    int
        0: done; 1: failed; 2: the configuration or the input is wrong.
    """
    arguments = _parser(name).parse_args(argv)
    try:
        config = load(arguments.config, [*arguments.set, *_start(arguments)], arguments.run_id)
        run_id = config.run_id or f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}"
        with _progress(arguments.level):
            spark = session_of(config)
            reports = [job(spark, config, run_id) for job in jobs]
    except Exception as error:
        return failed(name, error, arguments.debug)
    sys.stdout.write(without_secret("\n".join(summary(run_id, reports))) + "\n")
    return OK


def exiting(main: Callable[[], int]) -> Callable[[], None]:
    """Return a job's ``main`` as a task that ends the process where it failed.

    Databricks looks at no number that the entry point of a wheel returns, and takes an exit with 0 for a failure.

    Parameters
    ----------
    main : callable
        Returns the exit code.
    """

    def task() -> None:
        if code := main():
            sys.exit(code)

    return task


def summary(run_id: str, reports: Sequence[Report]) -> list[str]:
    """Return the lines of all reports, then every table written, once."""
    lines = [f"run          {run_id}"]
    for report in reports:
        lines += report.lines()
    written = dict.fromkeys(address for report in reports for address in report.tables)
    return [*lines, "tables", *(f"             {address}" for address in written)]


def _parser(name: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"mfspark-{name}",
        description=f"mfspark: {name}",
        epilog="\n".join(listed_keys()).replace("%", "%%"),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", required=True, help="the YAML configuration, for example conf/local.yaml")
    parser.add_argument(
        "--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="override one key; may be repeated"
    )
    parser.add_argument(
        "--run-id", help="repeating a run id replaces what it wrote; a killed training goes on (default: a new one)"
    )
    if name in ("train", "run"):
        parser.add_argument(
            "--from", dest="start", metavar="latest|VERSION|ALIAS", help="whose factors to start from: a daily refresh"
        )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    told = parser.add_mutually_exclusive_group()
    levels: dict[str, Any] = {"dest": "level", "action": "store_const", "default": logging.INFO}
    told.add_argument("--quiet", const=logging.WARNING, help="no progress on stderr", **levels)
    told.add_argument("--verbose", const=logging.DEBUG, help="more progress on stderr", **levels)
    return parser


def _start(arguments: argparse.Namespace) -> list[str]:
    """Return the overrides for ``--from``."""
    start = getattr(arguments, "start", None)
    if start is None:
        return []
    return [f"train.start_from={start}" if start == "latest" else f"train.start_version={start}"]


class _Discreet(logging.Formatter):
    """Writes a record without passwords and keys."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's text."""
        return without_secret(super().format(record))


@contextmanager
def _progress(level: int) -> Iterator[None]:
    """Let what mfspark logs from a level on reach stderr; other libraries stay as quiet as they are."""
    logger, handler = logging.getLogger("mfspark"), logging.StreamHandler()
    handler.setFormatter(_Discreet("%(message)s"))
    before = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(level)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.level, logger.propagate = before


def session_of(config: Config) -> SparkSession:
    """Return the session of a configuration, in which errors are nobody's business but the command's."""
    settings = settings_for(config) | {key: str(value) for key, value in config.spark.conf.items()}
    spark = spark_session(config.spark.app_name, config.spark.master, settings)
    # Errors are reported here, in one line: not by PySpark's own logger, nor by the local JVM.
    logging.getLogger("SQLQueryContextLogger").setLevel(logging.CRITICAL + 1)
    if not is_connect(spark) and str(spark.sparkContext.master).startswith("local"):
        spark.sparkContext.setLogLevel("FATAL")
    return spark


def failed(name: str, error: Exception, debug: bool) -> int:
    """Write an error as one line to stderr, and return the exit code: 2 where the input is wrong, else 1.

    Parameters
    ----------
    name : str
        The command's.
    error : Exception
        What was raised.
    debug : bool
        Whether its traceback is shown.
    """
    if debug:
        sys.stderr.write(without_secret("".join(traceback.format_exception(error))))
    if isinstance(error, MFSparkError):
        code, message = FAILED if isinstance(error, TrainingError) else BAD_INPUT, " ".join(str(error).split())
    elif isinstance(error, AnalysisException):
        code, message = BAD_INPUT, one_line(error)
    elif isinstance(error, PySparkException) or type(error).__module__.startswith("py4j"):
        code, message = FAILED, one_line(error)
    else:
        hint = "" if debug else " (--debug shows where)"
        code, message = FAILED, f"{type(error).__name__}: {one_line(error)}{hint}"
    sys.stderr.write(without_secret(f"mfspark-{name}: {message}\n"))
    return code
