"""Entry point of the fold-in job: ``spark-submit jobs/fold_in.py --config FILE``, or ``mfspark-fold-in``."""

import sys

from mfspark.pipeline import fold_in
from mfspark.pipeline.command import run_jobs


def main(argv: list[str] | None = None) -> int:
    """Run the job and return its exit code."""
    return run_jobs("fold-in", [fold_in], argv)


if __name__ == "__main__" and (code := main()):
    sys.exit(code)
