"""Entry point of the predict job: ``spark-submit jobs/predict.py --config FILE``, or ``mfspark-predict``."""

import sys

from mfspark.pipeline import predict
from mfspark.pipeline.command import run_jobs


def main(argv: list[str] | None = None) -> int:
    """Run the job and return its exit code."""
    return run_jobs("predict", [predict], argv)


if __name__ == "__main__" and (code := main()):
    sys.exit(code)
