"""Entry point of the tune job: ``spark-submit jobs/tune.py --config FILE``, or ``mfspark-tune``."""

import sys

from mfspark.pipeline import tune
from mfspark.pipeline.command import run_jobs


def main(argv: list[str] | None = None) -> int:
    """Run the job and return its exit code."""
    return run_jobs("tune", [tune], argv)


if __name__ == "__main__" and (code := main()):
    sys.exit(code)
