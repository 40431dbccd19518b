"""A fitted factorization, and what is done with it on Spark."""

from typing import Any

__all__ = ["FactorizationModel"]


def __getattr__(name: str) -> Any:
    """Import the model when it is asked for: its numbers alone (``model.factorization``) need no Spark."""
    if name == "FactorizationModel":
        from mfspark.model.load import FactorizationModel

        return FactorizationModel
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
