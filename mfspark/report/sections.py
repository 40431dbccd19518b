"""The sections of a page, each from the facts and the names of the charts that were drawn."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from mfspark.report.markup import absent, chart, number, section, table, text
from mfspark.report.structure import Facts, Known

__all__ = ["SECTIONS", "compared", "section"]

Drawn = Collection[str]
METRICS = ("loss", "fit", "regularisation", "validationRMSE")


def _charts(drawn: Drawn, wanted: Mapping[str, tuple[str, str]]) -> str:
    found = "".join(chart(name, *told) for name, told in wanted.items() if name in drawn)
    return f'<div class="charts">{found}</div>' if found else ""


def training(facts: Facts, drawn: Drawn) -> str:
    """Return the curves of loss and validation."""
    wanted = {
        "loss": ("Loss", "after each iteration, and its two parts"),
        "validation": ("Validation", "RMSE of the ratings held out from training"),
    }
    found = _charts(drawn, wanted) or absent("The model has no history: it was not fitted here.")
    missing = "" if "validation" in drawn or not facts.history else absent("No validation curve: nothing was held out.")
    return found + missing


def compared(facts: Facts, drawn: Drawn) -> str:  # noqa: ARG001
    """Return what changed against the version before: metrics, and the parameters that differ."""
    before = facts.before
    if before is None:
        return absent("No version was published before this one, or the model was not read from a store.")
    now = _measured(facts)
    names = [name for name in now if name in before.metrics]
    rows = [(name, before.metrics[name], now[name], now[name] - before.metrics[name]) for name in names]
    heads = ("", f"version {before.number}", "this version", "difference")
    metrics = table(heads, rows) if rows else absent("The two versions have no metric in common.")
    told = {**before.parameters, **facts.parameters}
    changed = [
        (name, _value(before.parameters, name), _value(facts.parameters, name))
        for name in sorted(told)
        if before.parameters.get(name) != facts.parameters.get(name)
    ]
    parameters = table(("parameter", *heads[1:3]), changed, False) if changed else absent("No parameter differs.")
    return f'<p class="note">against version {before.number}, run {text(before.run_id)}</p>{metrics}{parameters}'


def _measured(facts: Facts) -> dict[str, float]:
    last: Mapping[str, Any] = facts.history[-1] if facts.history else {}
    found = {name: last[name] for name in METRICS if last.get(name) is not None}
    return found | dict(facts.metrics)


def _value(parameters: Mapping[str, Any], name: str) -> str:
    return "–" if name not in parameters else str(parameters[name])


def metrics(facts: Facts, drawn: Drawn) -> str:  # noqa: ARG001
    """Return the metrics of the evaluation beside the baselines: ``popular_ndcgAtK`` stands beside ``ndcgAtK``."""
    if not facts.metrics:
        return absent("Not evaluated yet: mfspark-evaluate measures the model on its held-out ratings.")
    bases = [name for name in facts.metrics if not _prefix(name, facts.metrics)]
    columns = list(dict.fromkeys(prefix for name in facts.metrics if (prefix := _prefix(name, facts.metrics))))
    rows = [
        (name, facts.metrics[name], *(facts.metrics.get(f"{column}_{name}") for column in columns)) for name in bases
    ]
    return table(("metric", "model", *(column.replace("_", " ") for column in columns)), rows)


def _prefix(name: str, known: Mapping[str, float]) -> str:
    """Return what stands before the name of another metric, an empty string where the name is no baseline's."""
    ends = [base for base in known if base != name and name.endswith(f"_{base}")]
    return name[: -len(max(ends, key=len)) - 1] if ends else ""


def errors(facts: Facts, drawn: Drawn) -> str:
    """Return predicted against actual ratings, and errors by activity and popularity."""
    found = facts.errors
    if found is None:
        why = "no ratings were given, none is predicted, or the model predicts preferences and not ratings"
        return absent(f"Not measured: {why}.")
    note = (
        f"{number(found.sample)} of {found.of}: RMSE {number(found.rmse)}, MAE {number(found.mae)}; "
        f"{number(found.unpredicted)} without a prediction (an id the model does not know)"
    )
    wanted = {
        "predicted": ("Predicted against actual", "boxes: the middle half of the predictions; lines: 90 % of them"),
        "by_user": ("Error by activity of the user", "users by how many ratings they have"),
        "by_item": ("Error by popularity of the item", "items by how many ratings they have"),
    }
    return f'<p class="note">{text(note)}</p>' + _charts(drawn, wanted)


def ratings(facts: Facts, drawn: Drawn) -> str:
    """Return the distributions of ratings, activity and popularity."""
    found = facts.ratings
    if found is None:
        return absent("No ratings were given.")
    odd = f"; {number(found.not_finite)} are no finite numbers and not shown" if found.not_finite else ""
    wanted = {
        "values": ("Ratings", "how many there are of each"),
        "users": ("Activity", "users by how many ratings they have"),
        "items": ("Popularity", "items by how many ratings they have"),
    }
    return f'<p class="note">{number(found.count)} ratings{odd}</p>' + _charts(drawn, wanted)


def factors(facts: Facts, drawn: Drawn) -> str:
    """Return the spectrum of the factors and the map of the items."""
    points = 0 if facts.map is None else len(facts.map.points)
    which = "the most rated of them" if facts.ratings is not None else "some of them: no ratings were given"
    if points == facts.items:
        which = "all of them"
    told = f"{number(points)} items, {which}; larger dots have more ratings"
    return _charts(drawn, {
        "spectrum": ("Spectrum", "singular values of the product of both sides' factors"),
        "map": ("Map of the items", f"principal components of their factors: {told}"),
    }) or absent("The model has no factors.")  # fmt: skip


def neighbours(facts: Facts, drawn: Drawn) -> str:  # noqa: ARG001
    """Return the nearest neighbours of the best known items."""
    if not facts.known:
        return absent("None of the most rated items is known to the model.")
    how = "of the most rated items" if facts.ratings is not None else "of some items"
    note = f'<p class="note">{how}, by the cosine of the factors</p>'
    return note + '<div class="near">' + "".join(map(_near, facts.known)) + "</div>"


def _near(item: Known) -> str:
    rows = "".join(
        f"<li>{text(near.title or near.id)} <span>{near.similarity:.2f}</span></li>" for near in item.neighbours
    )
    count = "" if item.ratings is None else f" <span>{number(item.ratings)} ratings</span>"
    return f"<div><h3>{text(item.title or item.id)}{count}</h3><ol>{rows}</ol></div>"


def seconds(facts: Facts, drawn: Drawn) -> str:
    """Return the seconds of each stage and iteration."""
    spent = {name: float(value) for name, value in facts.stages.items()}
    iterations = sum(line.get("seconds") or 0.0 for line in facts.history)
    if not spent and facts.history:
        spent = {"iterations": float(iterations)}
    rows = [(name, value) for name, value in spent.items()]
    shown = table(("stage", "seconds"), [(name, f"{value:.2f}") for name, value in rows]) if rows else ""
    return (shown + _charts(drawn, {"seconds": ("Iterations", "seconds of each")})) or absent("Nothing was timed.")


def quality(facts: Facts, drawn: Drawn) -> str:  # noqa: ARG001
    """Return what became of the rows of the input, with an example for every reason."""
    found = facts.quality
    if found is None:
        return absent("No record of the check of the input: the ratings did not come through mfspark-ingest.")
    rejected = sum(part.rows for part in found.rejected)
    counts = "" if found.rows_in is None else (
        f'<p class="note">{number(found.rows_in)} rows in = {number(found.accepted)} accepted + '
        f"{number(rejected)} rejected</p>"
    )  # fmt: skip
    if not found.rejected:
        return counts + absent("No row was rejected.")
    rows = [(part.reason, number(part.rows), part.example) for part in found.rejected]
    return counts + table(("reason", "rows", "an example"), rows, False)


def parameters(facts: Facts, drawn: Drawn) -> str:  # noqa: ARG001
    """Return everything the model was fitted with."""
    if not facts.parameters:
        return absent("The model has no parameters.")
    rows = [(name, str(facts.parameters[name])) for name in sorted(facts.parameters)]
    return table(("parameter", "value"), rows, False)


def lineage(facts: Facts, drawn: Drawn) -> str:  # noqa: ARG001
    """Return the tables that were read and written."""
    if not facts.lineage:
        return absent("No tables are known: the model was not read from a store.")
    rows = [(part.role, part.name, "–" if part.version is None else str(part.version)) for part in facts.lineage]
    return table(("", "table", "version"), rows, False)


SECTIONS: dict[str, tuple[str, Callable[[Facts, Drawn], str]]] = {
    "training": ("Training", training),
    "metrics": ("Metrics and baselines", metrics),
    "errors": ("Predictions", errors),
    "compared": ("Against the version before", compared),
    "ratings": ("Ratings", ratings),
    "factors": ("Factors", factors),
    "neighbours": ("Nearest neighbours", neighbours),
    "seconds": ("Seconds", seconds),
    "quality": ("Data quality", quality),
    "parameters": ("Parameters", parameters),
    "lineage": ("Lineage", lineage),
}
"""The sections in their order: the name of each, its heading, and what makes it."""
