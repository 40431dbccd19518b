"""Entry point of the ingest job: ``spark-submit jobs/ingest.py --config FILE``, or ``mfspark-ingest``."""

import sys

from mfspark.pipeline import ingest
from mfspark.pipeline.command import run_jobs


def main(argv: list[str] | None = None) -> int:
    """Run the job and return its exit code."""
    return run_jobs("ingest", [ingest], argv)


if __name__ == "__main__" and (code := main()):
    sys.exit(code)
