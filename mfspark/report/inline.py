"""A page that a notebook shows inline, and that is written to one file."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from mfspark.report.markup import text


class Page:
    """A whole HTML page that asks no network for anything; subclasses give ``html`` and ``title``."""

    html: str
    title: str
    frame: ClassVar[int] = 900
    """Pixels of height in a notebook."""

    def save(self, path: str | Path) -> Path:
        """Write the page to a file, whose folder is made, and return its path."""
        file = Path(path).expanduser()
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(self.html, encoding="utf-8")
        return file

    def _repr_html_(self) -> str:
        """Return the page in a frame of its own: its styles and script do not meet the notebook's."""
        look = f"width:100%;height:{self.frame}px;border:0"
        return f'<iframe srcdoc="{text(self.html)}" style="{look}" title="{text(self.title)}"></iframe>'

    def __repr__(self) -> str:
        """Say in one line what it is."""
        return f"{type(self).__name__}({self.title}: save(path) writes it)"
