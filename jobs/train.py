"""Entry point of the train job: ``spark-submit jobs/train.py --config FILE``, or ``mfspark-train``."""

from mfspark.pipeline import train
from mfspark.pipeline.command import exiting, run_jobs


def main(argv: list[str] | None = None) -> int:
    """Run the job and return its exit code."""
    return run_jobs("train", [train], argv)


task = exiting(main)

if __name__ == "__main__":
    task()
