"""Entry point of the evaluate job: ``spark-submit jobs/evaluate.py --config FILE``, or ``mfspark-evaluate``."""

from mfspark.pipeline import evaluate
from mfspark.pipeline.command import exiting, run_jobs


def main(argv: list[str] | None = None) -> int:
    """Run the job and return its exit code."""
    return run_jobs("evaluate", [evaluate], argv)


task = exiting(main)

if __name__ == "__main__":
    task()
