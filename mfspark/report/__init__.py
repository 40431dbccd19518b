"""The training report: ``facts`` are what is shown of a model, ``page`` draws them as one HTML page, without Spark."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mfspark.report.charts import require_bokeh
    from mfspark.report.document import Report, page
    from mfspark.report.gather import Data, facts
    from mfspark.report.structure import Facts

__all__ = ["Data", "Facts", "Report", "facts", "page", "require_bokeh"]

_MODULE_OF = {
    "Data": "gather",
    "Facts": "structure",
    "Report": "document",
    "facts": "gather",
    "page": "document",
    "require_bokeh": "charts",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is asked for: a page needs no Spark, facts no plotting library."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"mfspark.report.{_MODULE_OF[name]}"), name)
