"""HTML of a page, with every text from the data escaped for where it stands."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any


def text(value: Any) -> str:
    """Return a text as HTML shows it literally, in an element or a quoted attribute."""
    return escape(str(value), quote=True)


def script_json(value: Any) -> str:
    """Return JSON that stands in a script element: nothing in it ends the element or opens a comment."""
    written = json.dumps(value)  # ASCII: no line separators of JavaScript
    return written.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def number(value: Any) -> str:
    """Return a number in few digits: thousands grouped, four decimals below; a dash for none."""
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    if not math.isfinite(value):
        return "no number" if math.isnan(value) else "infinite"
    if value == 0 or 1e-3 <= abs(value) < 1e3:
        return f"{value:.4f}"
    return f"{value:,.0f}" if 1e3 <= abs(value) < 1e9 else f"{value:.4g}"


def table(head: Sequence[str], rows: Iterable[Sequence[Any]], numeric: bool = True) -> str:
    """Return a table that scrolls by itself where it is too wide; numbers stand at the right.

    Parameters
    ----------
    head : sequence of str
        The columns.
    rows : iterable of sequences
        Their cells: numbers, texts (escaped here) or None.
    numeric : bool
        Whether the columns after the first hold numbers.
    """
    kind = ' class="numbers"' if numeric else ""
    names = "".join(f"<th>{text(name)}</th>" for name in head)
    lines = "".join("<tr>" + "".join(f"<td>{text(number(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table{kind}><thead><tr>{names}</tr></thead><tbody>{lines}</tbody></table></div>'


def tile(name: str, value: Any) -> str:
    """Return a number with its name, large."""
    return f'<div class="tile"><b>{text(number(value))}</b><span>{text(name)}</span></div>'


def chart(name: str, title: str, note: str = "") -> str:
    """Return the place of a chart, with a title and a line of explanation."""
    told = f"<p>{text(note)}</p>" if note else ""
    return f'<figure><figcaption><h3>{text(title)}</h3>{told}</figcaption><div id="chart-{name}"></div></figure>'


def absent(why: str) -> str:
    """Return the one line of a section that has no data."""
    return f'<p class="absent">{text(why)}</p>'


def section(name: str, title: str, body: str) -> str:
    """Return a section of the page."""
    return f'<section id="{name}"><h2>{text(title)}</h2>{body}</section>'
