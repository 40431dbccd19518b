"""Entry point of the evaluate job: ``spark-submit jobs/evaluate.py --config FILE``, or ``mfspark-evaluate``."""

import sys

from mfspark.pipeline import evaluate
from mfspark.pipeline.command import run_jobs


def main(argv: list[str] | None = None) -> int:
    """Run the job and return its exit code."""
    return run_jobs("evaluate", [evaluate], argv)


if __name__ == "__main__" and (code := main()):
    sys.exit(code)
