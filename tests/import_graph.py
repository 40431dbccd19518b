"""Who imports whom, read from the syntax tree of every module; ``python tests/import_graph.py`` draws it in the README.

Imports inside functions and under TYPE_CHECKING count: they, too, say what a module cannot be read without.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "mfspark"
README = ROOT / "README.md"
BEGIN, END = "<!-- import graph: begin -->\n", "<!-- import graph: end -->\n"
# Everybody may use these; arrows to them would hide the others.
GROUND = {"errors", "session"}


def every_module() -> list[Path]:
    """Return the modules of the package, then those of the jobs."""
    return [*sorted(PACKAGE.rglob("*.py")), *sorted((ROOT / "jobs").glob("*.py"))]


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def name_of(path: Path) -> str:
    """Return a module's dotted name, that of a package for its ``__init__.py``."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(name: str) -> str:
    """Return the room of a dotted name: what follows ``mfspark``, "" for the package itself, "jobs" for a job."""
    first, _, below = name.partition(".")
    return below.split(".")[0] if first == "mfspark" else first


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Yield the modules of this project that one names in its imports, each with the line."""
    known = {name_of(module) for module in every_module()}
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            # `from mfspark.data import ids` names a module, `from mfspark import ALS` the package's public face.
            below = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in known else str(node.module) for name in below]
        elif isinstance(node, ast.ImportFrom):
            names = ["relative import"]
        else:
            continue
        for name in dict.fromkeys(names):
            if name.split(".")[0] in ("mfspark", "jobs", "relative import"):
                yield name, node.lineno


def module_graph() -> dict[str, set[str]]:
    """Return what each module imports of this project."""
    return {name_of(path): {name for name, _ in imports(path)} - {name_of(path)} for path in every_module()}


def room_graph() -> dict[str, set[str]]:
    """Return which other rooms each room imports, but for the ground that all stand on."""
    graph: dict[str, set[str]] = {}
    for name, imported in module_graph().items():
        own = room_of(name)
        graph.setdefault(own, set()).update({room_of(other) for other in imported} - GROUND - {own})
    return {room: others for room, others in graph.items() if room not in GROUND}


def reached(graph: dict[str, set[str]], start: str) -> set[str]:
    """Return everything that can be reached by one arrow or more."""
    found: set[str] = set()
    new = list(graph.get(start, ()))
    while new:
        at = new.pop()
        if at not in found:
            found.add(at)
            new.extend(graph.get(at, ()))
    return found


def circles(graph: dict[str, set[str]]) -> list[set[str]]:
    """Return the groups of modules each of which imports, by some way, the others."""
    ways = {name: reached(graph, name) for name in graph}
    groups = {frozenset({name} | {o for o in ways[name] if name in ways.get(o, ())}) for name in graph}
    return [set(group) for group in groups if len(group) > 1 or next(iter(group)) in ways[next(iter(group))]]


def drawing() -> str:
    """Return the rooms and their arrows for Mermaid, without arrows that follow from others."""
    graph = room_graph()
    lines = ["```mermaid", "graph RL"]
    for room, others in sorted(graph.items()):
        direct = {one for one in others if not any(one in reached(graph, other) for other in others - {one})}
        lines += [f"  {room or 'mfspark'} --> {other or 'mfspark'}" for other in sorted(direct)]
        if not others and not any(room in arrows for arrows in graph.values()):
            lines.append(f"  {room}")
    return "\n".join([*lines, "```", ""])


def drawn() -> str:
    """Return the drawing that the README has."""
    return README.read_text(encoding="utf-8").split(BEGIN)[1].split(END)[0]


def main() -> None:
    """Draw the graph anew."""
    README.write_text(README.read_text(encoding="utf-8").replace(BEGIN + drawn(), BEGIN + drawing()), encoding="utf-8")


if __name__ == "__main__":
    main()
