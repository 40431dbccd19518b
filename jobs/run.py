"""Entry point of the main job, ``make run``: ingest, train and evaluate under one run id, then one summary."""

from mfspark.pipeline import evaluate, ingest, train
from mfspark.pipeline.command import exiting, run_jobs


def main(argv: list[str] | None = None) -> int:
    """Run the jobs and return the exit code."""
    return run_jobs("run", [ingest, train, evaluate], argv)


task = exiting(main)

if __name__ == "__main__":
    task()
