"""The charts of a report, by Bokeh: its whole script is 1.3 MB and is inlined (Plotly's, whole, is 4.8 MB).

Colours of axes, grids and letters are not set here but in the page's style sheet, which Bokeh 3.9 reads for what it
draws: light and dark are the reader's, without a second drawing. Texts from the data are never labels of an axis or a
title, in which Bokeh would look for formulas and load a library for them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from mfspark.errors import SetupError
from mfspark.report.markup import number
from mfspark.report.structure import Bin, Errors, Facts, Group, Map, Point, Spread

FIRST, SECOND, THIRD, QUIET = "#3b82f6", "#f08c2e", "#2fa36b", "#7f8a99"
LABELS, LABELLED, LETTERS = 12, 10, 18  # ticks with a label; items with their title on the map, and of how many letters


def require_bokeh() -> None:
    """Raise SetupError where the plotting library is not installed."""
    if find_spec("bokeh") is None:
        raise SetupError("the report is drawn by the package bokeh: pip install mfspark[report]")


def script() -> str:
    """Return Bokeh's script, which no ``</script>`` ends early."""
    require_bokeh()
    from bokeh.resources import Resources

    return "\n".join(Resources(mode="inline", components=["bokeh"]).js_raw).replace("</script", "<\\/script")


def charts(facts: Facts) -> dict[str, Any]:
    """Return every chart that the facts allow, by the name of its place on the page, as JSON can hold it."""
    require_bokeh()
    from bokeh.embed import json_item

    found = {
        "loss": loss_curve(facts.history),
        "validation": validation_curve(facts.history),
        "seconds": _seconds(facts.history),
    }
    found["spectrum"] = _spectrum(facts.spectrum)
    if facts.ratings is not None:
        found["values"] = _values(facts.ratings.values)
        found["users"] = _sizes(facts.ratings.users, "ratings of a user", "users")
        found["items"] = _sizes(facts.ratings.items, "ratings of an item", "items")
    if facts.errors is not None:
        found |= _errors(facts.errors)
    if facts.map is not None:
        found["map"] = _map(facts.map)
    return {name: json_item(figure) for name, figure in found.items() if figure is not None}


def new_figure(x: str, y: str, height: int = 260, tools: str = "", **options: Any) -> Any:
    """Return an empty chart in the report's style, its axes named."""
    from bokeh.models import NumeralTickFormatter
    from bokeh.plotting import figure

    made = figure(
        height=height, sizing_mode="stretch_width", tools=tools, toolbar_location=None, x_axis_label=x, y_axis_label=y,
        **options,
    )  # fmt: skip
    made.min_border_right = 12
    if options.get("y_axis_type") != "log":
        made.yaxis.formatter = NumeralTickFormatter(format="0.[000]a")
    return made


def hover(figure: Any, renderers: Any, tooltips: list[tuple[str, str]]) -> None:
    """Show tooltips over what was drawn."""
    from bokeh.models import HoverTool

    figure.add_tools(HoverTool(renderers=renderers, tooltips=tooltips))


def _legend_above(figure: Any) -> None:
    legend = figure.legend[0]
    figure.add_layout(legend, "above")
    legend.update(orientation="horizontal", spacing=14, padding=2, margin=0, glyph_width=16)
    legend.update(background_fill_alpha=0, border_line_color=None, label_text_color=QUIET)  # no style sheet's


def label_ticks(figure: Any, labels: Sequence[str]) -> None:
    """Label the places 0, 1, ... of the horizontal axis; of many labels only some are shown."""
    from bokeh.models import FixedTicker

    step = math.ceil(len(labels) / LABELS)
    places = list(range(0, len(labels), step))
    figure.xaxis.ticker = FixedTicker(ticks=places)
    figure.xaxis.major_label_overrides = {place: labels[place] for place in places}
    if max((len(labels[place]) for place in places), default=0) * len(places) > 40:
        figure.xaxis.major_label_orientation = 0.8


def loss_curve(history: Sequence[Mapping[str, Any]]) -> Any:
    """Return the loss and its parts over the iterations, None where there are none."""
    lines = {"loss": (FIRST, "solid"), "fit": (THIRD, "dashed"), "regularisation": (SECOND, "dotted")}
    return _curves(history, lines, "loss")


def validation_curve(history: Sequence[Mapping[str, Any]]) -> Any:
    """Return the error of the held-out ratings over the iterations, None where there are none."""
    return _curves(history, {"validationRMSE": (SECOND, "solid")}, "RMSE of held-out ratings")


def _curves(history: Sequence[Mapping[str, Any]], lines: Mapping[str, tuple[str, str]], label: str) -> Any:
    """Return lines over the iterations; what is no finite number is a gap."""
    series = {name: [_finite(line.get(name)) for line in history] for name in lines}
    series = {name: values for name, values in series.items() if any(not math.isnan(value) for value in values)}
    if not series:
        return None
    first = [value for value in next(iter(series.values())) if not math.isnan(value)]
    steep = min(first) > 0 and max(first) > 20 * min(first) and all(min(v) > 0 for v in series.values())
    made = new_figure("iteration", label, y_axis_type="log" if steep else "linear")
    data = {"iteration": [line["iteration"] for line in history], **series}
    drawn = []
    for name in series:
        colour, dash = lines[name]
        legend = {"legend_label": name} if len(series) > 1 else {}
        made.line("iteration", name, source=data, color=colour, line_dash=dash, line_width=2, **legend)
        drawn.append(made.scatter("iteration", name, source=data, color=colour, size=6))
    hover(made, drawn[:1], [("iteration", "@iteration"), *((name, f"@{name}{{0,0.0000}}") for name in series)])
    if len(series) > 1:
        _legend_above(made)
    return made


def _finite(value: Any) -> float:
    return float(value) if value is not None and math.isfinite(value) else math.nan


def _seconds(history: Sequence[Mapping[str, Any]]) -> Any:
    spent = [(line["iteration"], line["seconds"]) for line in history if line.get("seconds") is not None]
    if not spent:
        return None
    made = new_figure("iteration", "seconds")
    data = {"iteration": [at for at, _ in spent], "seconds": [value for _, value in spent]}
    bars = made.vbar("iteration", top="seconds", width=0.8, source=data, color=FIRST, line_color=None)
    made.y_range.start = 0
    hover(made, [bars], [("iteration", "@iteration"), ("seconds", "@seconds{0.000}")])
    return made


def _spectrum(values: Sequence[float]) -> Any:
    if not values:
        return None
    steep = values[-1] > 0 and values[0] > 20 * values[-1]
    made = new_figure("factor", "singular value", y_axis_type="log" if steep else "linear")
    data = {"place": list(range(1, len(values) + 1)), "value": list(values)}
    made.line("place", "value", source=data, color=FIRST, line_width=1.5)
    dots = made.scatter("place", "value", source=data, color=FIRST, size=6)
    if not steep:
        made.y_range.start = 0
    hover(made, [dots], [("factor", "@place"), ("singular value", "@value{0,0.0000}")])
    return made


def _values(bins: Sequence[Bin]) -> Any:
    """Return the distribution of the ratings: bars for single values, a histogram for many."""
    if not bins:
        return None
    if all(part.low == part.high for part in bins):
        return _bars([f"{part.low:g}" for part in bins], [part.count for part in bins], "rating", "ratings")
    ratio = bins[0].low > 0 and bins[-1].high / bins[0].low > 1000
    made = new_figure("rating", "ratings", x_axis_type="log" if ratio else "linear")
    data = {name: [getattr(part, name) for part in bins] for name in ("low", "high", "count")}
    bars = made.quad(left="low", right="high", top="count", bottom=0, source=data, color=FIRST, line_color=None)
    made.y_range.start = 0
    hover(made, [bars], [("from", "@low"), ("to", "@high"), ("ratings", "@count{0,0}")])
    return made


def _sizes(bins: Sequence[Bin], x: str, y: str) -> Any:
    return _bars([interval(part.low, part.high) for part in bins], [part.count for part in bins], x, y)


def _bars(labels: Sequence[str], counts: Sequence[int], x: str, y: str) -> Any:
    if not labels:
        return None
    made = new_figure(x, y)
    data = {"place": list(range(len(labels))), "label": list(labels), "count": list(counts)}
    bars = made.vbar("place", top="count", width=0.85, source=data, color=FIRST, line_color=None)
    made.y_range.start = 0
    label_ticks(made, labels)
    hover(made, [bars], [(x, "@label"), (y, "@count{0,0}")])
    return made


def _errors(errors: Errors) -> dict[str, Any]:
    return {
        "predicted": _spreads(errors.spreads),
        "by_user": _groups(errors.by_user, "ratings of the user"),
        "by_item": _groups(errors.by_item, "ratings of the item"),
    }


def _spreads(spreads: Sequence[Spread]) -> Any:
    """Return, for each actual rating, where the middle 50 % and 90 % of its predictions lie."""
    if not spreads:
        return None
    made = new_figure("actual rating", "predicted", height=300)
    labels = [interval(part.low, part.high) for part in spreads]
    names = ("q5", "q25", "q50", "q75", "q95")
    data: dict[str, list[Any]] = {name: [part.quantiles[n] for part in spreads] for n, name in enumerate(names)}
    data |= {"place": list(range(len(spreads))), "label": labels, "count": [part.count for part in spreads]}
    data["actual"] = [part.low / 2 + part.high / 2 for part in spreads]
    made.segment("place", "q5", "place", "q95", source=data, color=FIRST, line_width=2)
    middle = {"top": "q75", "bottom": "q25", "width": 0.6, "line_color": None, "alpha": 0.55}
    boxes = made.vbar("place", source=data, color=FIRST, **middle)
    made.scatter("place", "q50", source=data, marker="dash", size=22, color=FIRST, line_width=3, legend_label="median")
    made.scatter("place", "actual", source=data, marker="x", size=9, color=SECOND, line_width=2, legend_label="actual")
    _legend_above(made)
    label_ticks(made, labels)
    told = [("actual", "@label"), ("ratings", "@count{0,0}"), ("median", "@q50{0.00}")]
    hover(made, [boxes], [*told, ("half of them", "@q25{0.00} to @q75{0.00}")])
    return made


def _groups(groups: Sequence[Group], x: str) -> Any:
    if not groups:
        return None
    made = new_figure(x, "RMSE")
    labels = [interval(part.low, part.high) for part in groups]
    data: dict[str, list[Any]] = {name: [getattr(part, name) for part in groups] for name in ("ratings", "rmse", "mae")}
    data |= {"place": list(range(len(groups))), "label": labels}
    bars = made.vbar("place", top="rmse", width=0.85, source=data, color=SECOND, line_color=None)
    made.y_range.start = 0
    label_ticks(made, labels)
    told = [("RMSE", "@rmse{0.0000}"), ("MAE", "@mae{0.0000}"), ("pairs", "@ratings{0,0}")]
    hover(made, [bars], [(x, "@label"), *told])
    return made


def _map(found: Map) -> Any:
    from bokeh.models import WheelZoomTool

    share = [f"{100 * part:.0f} % of the variance" for part in found.shares]
    made = new_figure(f"component 1, {share[0]}", f"component 2, {share[1]}", height=460, tools="pan,box_zoom,reset")
    made.add_tools(WheelZoomTool())
    made.toolbar.active_drag = None
    made.toolbar.active_scroll = None
    made.toolbar_location = "above"
    made.toolbar.logo = None
    most = max((point.ratings or 1 for point in found.points), default=1)
    data = {
        "x": [point.x for point in found.points],
        "y": [point.y for point in found.points],
        "title": [point.title or "" for point in found.points],
        "id": [point.id for point in found.points],
        "ratings": [number(point.ratings) for point in found.points],
        "size": [4 + 10 * math.sqrt((point.ratings or 1) / most) for point in found.points],
    }
    dots = made.scatter("x", "y", size="size", source=data, color=FIRST, alpha=0.6, line_color=None)
    for align, letters in _letters(found.points).items():
        shift = {"left": 6, "right": -6}[align]
        made.text("x", "y", "text", source=letters, text_align=align, x_offset=shift, y_offset=-4,
                  text_font_size="11px", text_color=QUIET)  # fmt: skip
    hover(made, [dots], [("title", "@title"), ("id", "@id"), ("ratings", "@ratings")])
    return made


def _letters(points: Sequence[Point]) -> dict[str, dict[str, list[Any]]]:
    """Return the titles that the map shows, by how they are aligned: of the most rated items, none over another."""
    named = [point for point in points if point.title]
    found: dict[str, dict[str, list[Any]]] = {align: {"x": [], "y": [], "text": []} for align in ("left", "right")}
    wide, high = (max(values) - min(values) or 1.0 for values in (_axis(points, "x"), _axis(points, "y")))
    middle = (max(_axis(points, "x")) + min(_axis(points, "x"))) / 2
    taken: list[tuple[float, float]] = []
    for point in named:
        align = "left" if point.x < middle else "right"
        start = point.x if align == "left" else point.x - wide / 2
        free = all(abs(start - x) > wide / 2 or abs(point.y - y) > 0.06 * high for x, y in taken)
        if free and len(taken) < LABELLED:
            taken.append((start, point.y))
            for name, value in (("x", point.x), ("y", point.y), ("text", cut(point.title or ""))):
                found[align][name].append(value)
    return found


def _axis(points: Sequence[Point], name: str) -> list[float]:
    return [getattr(point, name) for point in points] or [0.0]


def cut(text: str) -> str:
    """Return a title as short as the map needs it."""
    return text if len(text) <= LETTERS else text[: LETTERS - 1] + "…"


def interval(low: float, high: float) -> str:
    """Return a range of numbers in few letters, such as 4-7 or 1k-2k."""
    ends = [_short(low), _short(high)]
    return ends[0] if low == high else "–".join(ends)


def _short(value: float) -> str:
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if unit <= abs(value) < 1000 * unit:
            return f"{value / unit:.2g}{letter}" if value < 100 * unit else f"{value / unit:.0f}{letter}"
    return f"{value:.4g}"
