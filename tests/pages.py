"""The Markdown pages of the project: their blocks, their inline code, their headings and links."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("mfspark", "jobs", "conf", "tests", "notebooks")
LANGUAGES = ("python", "bash", "text", "mermaid")
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def pages() -> dict[str, str]:
    """Return the text of every page by its name."""
    found = [*ROOT.glob("*.md"), *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.md"))]
    return {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in sorted(found)}


def blocks(text: str, language: str) -> list[str]:
    """Return the fenced blocks of a language."""
    return [block for named, block in _FENCE.findall(text) if named == language]


def languages(text: str) -> set[str]:
    """Return the languages of all fenced blocks, "" for one without."""
    return {named for named, _ in _FENCE.findall(text)}


def prose(text: str) -> str:
    """Return a page without its fenced blocks."""
    return _FENCE.sub("", text)


def inline_code(text: str) -> list[str]:
    """Return what stands between single backticks, line breaks as blanks."""
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose(text))]


def links(text: str) -> list[str]:
    """Return the targets of links and pictures."""
    return re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`]*`", "", prose(text)))


def anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings, made as GitHub makes them."""
    heads = re.findall(r"^#+ (.+)$", prose(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def commands(text: str) -> list[str]:
    """Return the command lines of a page: each line of its bash blocks, and inline code that starts as one.

    A line that ends in a backslash goes on in the next; comments are left out; what ``&&`` joins comes apart.
    """
    lines = [line for block in blocks(text, "bash") for line in block.replace("\\\n", " ").splitlines()]
    lines += [code for code in inline_code(text) if re.match(r"(make|mfspark-\S+|python|pip|spark-submit)( |$)", code)]
    parts = [part for line in lines for part in re.sub(r"(^|\s)#.*", "", line).split("&&")]
    return [" ".join(part.split()) for part in parts if part.strip()]
