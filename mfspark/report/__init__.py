"""The training report: ``facts`` are what is shown of a model, ``page`` draws them as one HTML page, without Spark.

``plots`` are smaller pages: the history of a fit, the trials of a search.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mfspark.report.charts import require_bokeh
    from mfspark.report.document import Report, page
    from mfspark.report.gather import Data, facts
    from mfspark.report.plots import Plot, history_plot, search_plot
    from mfspark.report.structure import Facts

__all__ = ["Data", "Facts", "Plot", "Report", "facts", "history_plot", "page", "require_bokeh", "search_plot"]

_MODULE_OF = {
    "Data": "gather",
    "Facts": "structure",
    "Plot": "plots",
    "Report": "document",
    "facts": "gather",
    "history_plot": "plots",
    "page": "document",
    "require_bokeh": "charts",
    "search_plot": "plots",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is asked for: a page needs no Spark, facts no plotting library."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"mfspark.report.{_MODULE_OF[name]}"), name)
