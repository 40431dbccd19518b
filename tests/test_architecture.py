"""The rooms and their rules (DESIGN, sections 2 and 6), checked on the syntax tree of every module."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "mfspark"
MAX_LINES = 400
TOP_LEVEL = {"pyproject.toml", "README.md", "jobs", "mfspark", "tests", "conf", "notebooks", "Makefile"}

# Every room may import itself and the leaves; what else it may import stands here.
LEAVES = {"errors", "session"}
ALLOWED = {
    "errors": set(),
    "config_rules": set(),
    "config": {"config_rules"},
    "session": set(),
    "kernels": set(),
    "transport": {"kernels"},
    "blocks": {"transport", "kernels"},
    "training": {"blocks", "transport", "kernels"},
    "model": {"training", "blocks", "transport", "kernels"},
    "data": {"kernels"},
    "store": set(),
    "evaluation": set(),
    "report": set(),
    "estimators": {"model", "training", "blocks", "transport", "kernels", "store"},
    "pipeline": {"config", "config_rules", "data", "store", "evaluation", "report", "model", "estimators", ""},
    "": {"errors", "session", "estimators", "model"},
    "jobs": {"pipeline"},
}
# Who may say "delta" besides the store: the session loads its JARs and its SQL extension, and transport has a
# strategy of that name, which is handed the function that writes.
DELTA_SPEAKERS = {"store", "session"}
DELTA_STRATEGY = {"transport/persist.py": {"_delta", "delta", "materializer 'delta' needs a folder"}}
DELTA_DOCUMENTED = {"estimators/params.py"}


def modules(*rooms):
    found = [path for path in sorted(PACKAGE.rglob("*.py")) if not rooms or room_of(path) in rooms]
    assert found
    return found


def room_of(path):
    """The room a module belongs to: the folder or module below mfspark, "" for mfspark/__init__.py."""
    if path.is_relative_to(ROOT / "jobs"):
        return "jobs"
    first = path.relative_to(PACKAGE).parts[0]
    return "" if first == "__init__.py" else first.removesuffix(".py")


def tree_of(path):
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def imported_rooms(path):
    """Each room of mfspark that a module imports at run time, with the line."""
    for node in ast.walk(without_type_checking(tree_of(path))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            deep = node.module == "mfspark"
            names = [f"mfspark.{alias.name}" if deep else node.module for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = ["relative import"]
        else:
            continue
        for name in names:
            if name.split(".")[0] in ("mfspark", "jobs", "relative import"):
                yield room_named(name), node.lineno


def room_named(name):
    parts = name.split(".")
    if parts[0] != "mfspark":
        return parts[0]
    below = parts[1] if len(parts) > 1 else ""
    # `from mfspark import ALS` is the package itself, not a room.
    return below if below in ALLOWED else ""


def without_type_checking(tree):
    class Remove(ast.NodeTransformer):
        def visit_If(self, node):
            return None if "TYPE_CHECKING" in ast.unparse(node.test) else self.generic_visit(node)

    return Remove().visit(tree)


def every_module():
    return [*modules(), *sorted((ROOT / "jobs").glob("*.py"))]


def named(path):
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", every_module(), ids=named)
def test_imports_follow_the_arrows(path):
    room = room_of(path)
    allowed = ALLOWED[room] | {room} | LEAVES
    wrong = [f"line {line}: {other or 'mfspark'}" for other, line in imported_rooms(path) if other not in allowed]
    assert not wrong, f"{named(path)} ({room}) imports against the arrows: {wrong}"


def test_the_arrow_test_sees_a_wrong_import(tmp_path):
    wrong = tmp_path / "wrong.py"
    wrong.write_text("from typing import TYPE_CHECKING\nimport mfspark.blocks.build\nfrom mfspark import store\n")
    assert [room for room, _ in imported_rooms(wrong)] == ["blocks", "store"]
    wrong.write_text(
        "if TYPE_CHECKING:\n    from mfspark.model import X\ndef f():\n    from mfspark.data.ids import Y\n"
    )
    assert [room for room, _ in imported_rooms(wrong)] == ["data"]


@pytest.mark.parametrize("path", modules("kernels"), ids=named)
def test_kernels_know_no_spark(path):
    text = ast.unparse(tree_of(path))
    assert not re.search(r"^\s*(import|from) (pyspark|delta)", text, re.MULTILINE)


@pytest.mark.parametrize("path", modules("transport", "blocks", "training", "model"), ids=named)
def test_there_is_one_half_step_for_both_sides(path):
    for node in ast.walk(tree_of(path)):
        name = getattr(node, "id", None) or getattr(node, "arg", None) or getattr(node, "name", None) or ""
        assert not re.match(r"_?is_(user|item)s?$", str(name)), f"{named(path)}: {name}"
        if isinstance(node, ast.If | ast.IfExp):
            compared = [part.value for part in ast.walk(node.test) if isinstance(part, ast.Constant)]
            sides = {"user", "item", "users", "items"} & {value for value in compared if isinstance(value, str)}
            assert not sides, f"{named(path)}, line {node.lineno}: branches on {sides}"


def says_delta(path):
    """Identifiers and texts of a module that say delta; docstrings and timedelta do not count."""
    tree = tree_of(path)
    docstrings = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node):
            docstrings.add(id(node.body[0].value))
    for node in ast.walk(tree):
        if id(node) in docstrings:
            continue
        words = [getattr(node, field, None) for field in ("id", "attr", "name", "arg", "module", "value")]
        for word in words:
            if isinstance(word, str) and re.search(r"(?<!time)delta", word, re.IGNORECASE):
                yield word, getattr(node, "lineno", 0)


@pytest.mark.parametrize("path", every_module(), ids=named)
def test_only_the_store_says_delta(path):
    if room_of(path) in DELTA_SPEAKERS:
        return
    key = str(path.relative_to(PACKAGE)) if path.is_relative_to(PACKAGE) else named(path)
    if key in DELTA_DOCUMENTED:
        return
    allowed = DELTA_STRATEGY.get(key, set())
    found = [(word, line) for word, line in says_delta(path) if not any(word.startswith(a) for a in allowed)]
    wrong = [f"line {line}: {word!r}" for word, line in found]
    assert not wrong, f"{key} says delta: {wrong}"


@pytest.mark.parametrize("path", every_module(), ids=named)
def test_modules_are_short(path):
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= MAX_LINES, f"{named(path)} has {lines} lines: split it by meaning"


@pytest.mark.parametrize(
    "path",
    modules("data", "store", "evaluation", "pipeline", "transport", "blocks", "training", "estimators", "model"),
    ids=named,
)
def test_library_paths_work_without_a_jvm(path):
    """Spark Connect has neither a JVM beside Python nor RDDs."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Attribute):
            assert node.attr not in ("_jvm", "_jsc", "_jdf", "rdd"), f"{named(path)}, line {node.lineno}: {node.attr}"


def test_the_top_level_is_the_agreed_one():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("no git checkout: what is tracked cannot be listed")
    tracked = {line.split("/")[0] for line in listed.stdout.splitlines()}
    assert {name for name in tracked if not name.startswith(".")} == TOP_LEVEL


def test_jobs_hold_no_logic():
    for path in sorted((ROOT / "jobs").glob("*.py")):
        functions = [node.name for node in ast.walk(tree_of(path)) if isinstance(node, ast.FunctionDef)]
        assert functions in ([], ["main"]), f"{named(path)} has functions besides main: {functions}"
