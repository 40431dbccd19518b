"""Pictures on a page of their own: how a fit went, and what a search found."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from mfspark.report.charts import (
    FIRST,
    QUIET,
    hover,
    label_ticks,
    loss_curve,
    new_figure,
    require_bokeh,
    validation_curve,
)
from mfspark.report.inline import Page


class Plot(Page):
    """A picture as a page of its own.

    Parameters
    ----------
    title : str
        What it shows.
    figures : sequence
        Bokeh's figures, from top to bottom.
    """

    frame = 560

    def __init__(self, title: str, figures: Sequence[Any]) -> None:
        self.title, self.figures = title, figures

    @cached_property
    def html(self) -> str:  # type: ignore[override]
        """The page."""
        from bokeh.embed import file_html
        from bokeh.layouts import column
        from bokeh.resources import INLINE

        return file_html(column(*self.figures, sizing_mode="stretch_width"), INLINE, self.title)


def history_plot(history: Sequence[Mapping[str, Any]]) -> Plot:
    """Return the curves of the loss and of the validation RMSE.

    Parameters
    ----------
    history : sequence of mapping
        A row an iteration, as a model's history has them.

    Raises
    ------
    SetupError
        The plotting library is not installed.
    """
    require_bokeh()
    return Plot(
        "history of a fit", [one for one in (loss_curve(history), validation_curve(history)) if one is not None]
    )


def search_plot(trials: Sequence[tuple[Mapping[str, Any], float]], metric: str) -> Plot:
    """Return one chart for every parameter that was searched: its values, and the score of each trial.

    Parameters
    ----------
    trials : sequence of (mapping, float)
        Settings and mean score, the best first.
    metric : str
        What the scores are.

    Raises
    ------
    SetupError
        The plotting library is not installed.
    """
    require_bokeh()
    names = dict.fromkeys(name for settings, _ in trials for name in settings)
    varied = [name for name in names if len({json.dumps(settings.get(name)) for settings, _ in trials}) > 1]
    return Plot(f"search by {metric}", [_scores(trials, name, metric) for name in varied or names])


def _scores(trials: Sequence[tuple[Mapping[str, Any], float]], name: str, metric: str) -> Any:
    values = [settings.get(name) for settings, _ in trials]
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    labels: list[str] = []
    if len(numbers) == len(values) and all(map(math.isfinite, numbers)):
        wide = min(numbers) > 0 and max(numbers) > 10 * min(numbers)
        made, places = new_figure(name, metric, 240, x_axis_type="log" if wide else "linear"), list(map(float, numbers))
    else:
        labels = list(dict.fromkeys(map(str, values)))
        made, places = new_figure(name, metric, 240), [float(labels.index(str(value))) for value in values]
        label_ticks(made, labels)
    told = [", ".join(f"{key}={value}" for key, value in settings.items()) for settings, _ in trials]
    data: dict[str, list[Any]] = {"x": places, "y": [score for _, score in trials], "settings": told}
    rest = {key: column[1:] for key, column in data.items()}
    drawn = [made.scatter("x", "y", source=rest, color=QUIET, size=7, fill_alpha=0.6)]
    best = {key: column[:1] for key, column in data.items()}
    drawn.append(made.scatter("x", "y", source=best, color=FIRST, size=11, legend_label="best"))
    hover(made, drawn, [("", "@settings"), (metric, "@y{0.00000}")])
    return made
