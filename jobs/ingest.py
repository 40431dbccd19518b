"""Entry point of the ingest job: ``spark-submit jobs/ingest.py --config FILE``, or ``mfspark-ingest``."""

from mfspark.pipeline import ingest
from mfspark.pipeline.command import exiting, run_jobs


def main(argv: list[str] | None = None) -> int:
    """Run the job and return its exit code."""
    return run_jobs("ingest", [ingest], argv)


task = exiting(main)

if __name__ == "__main__":
    task()
