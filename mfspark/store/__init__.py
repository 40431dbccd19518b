"""Delta tables: the only place that says "delta"."""

from mfspark.store.registry import Registry
from mfspark.store.schemas import ModelVersion
from mfspark.store.tables import Location

__all__ = ["Location", "ModelVersion", "Registry"]
