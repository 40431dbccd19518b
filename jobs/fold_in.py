"""Entry point of the fold-in job: ``spark-submit jobs/fold_in.py --config FILE``, or ``mfspark-fold-in``."""

from mfspark.pipeline import fold_in
from mfspark.pipeline.command import exiting, run_jobs


def main(argv: list[str] | None = None) -> int:
    """Run the job and return its exit code."""
    return run_jobs("fold-in", [fold_in], argv)


task = exiting(main)

if __name__ == "__main__":
    task()
