"""Entry point of the predict job: ``spark-submit jobs/predict.py --config FILE``, or ``mfspark-predict``."""

from mfspark.pipeline import predict
from mfspark.pipeline.command import exiting, run_jobs


def main(argv: list[str] | None = None) -> int:
    """Run the job and return its exit code."""
    return run_jobs("predict", [predict], argv)


task = exiting(main)

if __name__ == "__main__":
    task()
