"""Entry point of the planner: ``mfspark-plan --ratings 1e9 --users 5e6 --items 2e5``."""

import sys

from mfspark.pipeline import planning


def main(argv: list[str] | None = None) -> int:
    """Print what a fit will take and return the exit code."""
    return planning.main(argv)


if __name__ == "__main__" and (code := main()):
    sys.exit(code)
