"""The page of a report: one HTML file that holds all it needs, and asks no network for anything."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from mfspark.report import sections
from mfspark.report.charts import charts, script
from mfspark.report.inline import Page
from mfspark.report.markup import script_json, text, tile
from mfspark.report.structure import Facts
from mfspark.report.style import SCRIPT, STYLE


class Report(Page):
    """A report, shown inline by notebooks.

    Parameters
    ----------
    facts : Facts
        What it shows.
    """

    def __init__(self, facts: Facts) -> None:
        self.facts = facts

    @cached_property
    def html(self) -> str:  # type: ignore[override]
        """The page."""
        return page(self.facts)

    @property
    def title(self) -> str:  # type: ignore[override]
        """What the page is about."""
        return title(self.facts)


def page(facts: Facts) -> str:
    """Return the whole page of some facts.

    Parameters
    ----------
    facts : Facts
        What it shows; whatever is missing has a line that says so.

    Returns
    -------
    str
        HTML of about 1.3 MB, nearly all of it the plotting library.

    Raises
    ------
    SetupError
        The plotting library is not installed: ``mfspark[report]``.
    """
    drawn = charts(facts)
    parts = {name: (heading, make(facts, drawn)) for name, (heading, make) in sections.SECTIONS.items()}
    links = "".join(f'<a href="#{name}">{text(heading)}</a>' for name, (heading, _) in parts.items())
    body = "".join(sections.section(name, heading, html) for name, (heading, html) in parts.items())
    tiles = "".join(tile(name, value) for name, value in headline(facts).items() if value is not None)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="icon" href="data:,">'
        f"<title>{text(title(facts))}</title><style>{STYLE}</style></head><body>"
        f"<header><h1>{text(title(facts))}</h1><p>{text(origin(facts))}</p>"
        f'<div class="tiles">{tiles}</div><nav>{links}</nav></header>'
        f"<main>{body}<footer>made by mfspark</footer></main>"
        f'<script type="application/json" id="charts">{script_json(drawn)}</script>'
        f"<script>{script()}</script><script>{SCRIPT}</script></body></html>"
    )


def title(facts: Facts) -> str:
    """Return the page's title."""
    number = "" if facts.version is None else f", version {facts.version.number}"
    return f"{facts.model} of rank {facts.rank}{number}"


def origin(facts: Facts) -> str:
    """Return where the model comes from, in one line."""
    if facts.version is None:
        return "not published: as fitted or loaded"
    version = facts.version
    return f"run {version.run_id}, published {version.created_at} in {version.store}"


def headline(facts: Facts) -> Mapping[str, Any]:
    """Return the numbers at the top; None where there is none."""
    last: Mapping[str, Any] = facts.history[-1] if facts.history else {}
    return {
        "users": facts.users,
        "items": facts.items,
        "ratings": None if facts.ratings is None else facts.ratings.count,
        "factors": facts.rank,
        "iterations": last.get("iteration"),
        "loss": last.get("loss"),
        "validation RMSE": last.get("validationRMSE"),
        "RMSE of predictions": None if facts.errors is None else facts.errors.rmse,
    }
