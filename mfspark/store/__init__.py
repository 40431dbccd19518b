"""Delta tables: the only place that says "delta"."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mfspark.store.registry import Registry
    from mfspark.store.schemas import ModelVersion
    from mfspark.store.tables import Location

__all__ = ["Location", "ModelVersion", "Registry"]

_MODULE_OF = {"Location": "tables", "ModelVersion": "schemas", "Registry": "registry"}


def __getattr__(name: str) -> Any:
    """Import a public name when it is asked for: ``store.reader`` needs no Spark."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"mfspark.store.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value
