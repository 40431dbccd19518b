"""Entry point of the model registry: ``mfspark-models list --store LOCATION``, and diff, promote, rollback, retire."""

import sys

from mfspark.pipeline import managing


def main(argv: list[str] | None = None) -> int:
    """Do what the arguments say and return the exit code."""
    return managing.main(argv)


if __name__ == "__main__" and (code := main()):
    sys.exit(code)
