"""The rooms and their rules (DESIGN, sections 2 and 6), checked on the syntax tree of every module."""

import ast
import re
import subprocess

import import_graph
import pytest
from import_graph import PACKAGE, ROOT, every_module, tree_of

MAX_LINES = 350
TOP_LEVEL = {"pyproject.toml", "README.md", "jobs", "mfspark", "tests", "conf", "notebooks", "Makefile"}

# Every room may import itself and the ground (errors, session); what else it may import stands here.
ALLOWED = {
    "errors": set(),
    "config": {"estimators"},
    "session": set(),
    "kernels": set(),
    "transport": {"kernels"},
    "blocks": {"transport", "kernels"},
    "training": {"blocks", "transport", "kernels"},
    "model": {"training", "blocks", "transport", "kernels", "store", "report"},
    "data": {"kernels"},
    "store": {"kernels"},
    "evaluation": {"store", "report"},
    "report": {"transport"},
    "estimators": {"model", "training", "blocks", "transport", "kernels", "store"},
    "tracking": {"model", "training", "kernels", "store"},
    "pipeline": {"config", "data", "store", "evaluation", "report", "model", "estimators", "training", "tracking", ""},
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
    return import_graph.room_of(import_graph.name_of(path))


def named(path):
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", every_module(), ids=named)
def test_imports_follow_the_arrows(path):
    room = room_of(path)
    allowed = ALLOWED[room] | {room} | import_graph.GROUND
    wrong = [
        f"line {line}: {other}"
        for other, line in import_graph.imports(path)
        if import_graph.room_of(other) not in allowed
    ]
    assert not wrong, f"{named(path)} ({room}) imports against the arrows: {wrong}"


def test_the_arrow_test_sees_a_wrong_import(tmp_path):
    wrong = tmp_path / "wrong.py"

    def rooms():
        return [import_graph.room_of(name) for name, _ in import_graph.imports(wrong)]

    wrong.write_text("from typing import TYPE_CHECKING\nimport mfspark.blocks.build\nfrom mfspark import store\n")
    assert rooms() == ["blocks", "store"]
    wrong.write_text(
        "if TYPE_CHECKING:\n    from mfspark.model import X\ndef f():\n    from mfspark.data.ids import Y\n"
    )
    assert rooms() == ["model", "data"]
    wrong.write_text("from mfspark import ALS\nfrom . import csr\nimport jobs.run\n")
    assert rooms() == ["", "relative import", "jobs"]


def test_the_drawing_in_the_readme_is_the_import_graph():
    assert import_graph.drawn() == import_graph.drawing(), "python tests/import_graph.py draws it anew"


def test_nothing_imports_in_a_circle():
    assert import_graph.circles(import_graph.room_graph()) == []
    assert import_graph.circles(import_graph.module_graph()) == []


def test_the_modules_import_each_other_in_no_circle():
    graph = import_graph.module_graph()
    assert graph["mfspark.model.answers"] >= {"mfspark.model.recommend", "mfspark.model.fold_in"}
    assert import_graph.circles(graph) == []


def test_circles_are_seen():
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a", "d"}}
    assert sorted(map(sorted, import_graph.circles(graph))) == [["b", "c"], ["d"]]


@pytest.mark.parametrize("path", modules("kernels"), ids=named)
def test_kernels_know_no_spark(path):
    no_spark(path)


@pytest.mark.parametrize("module", ["model/factorization.py", "blocks/sizes.py", "training/cost.py"])
def test_numbers_need_no_spark(module):
    no_spark(PACKAGE / module)


def no_spark(path):
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
    modules(*ALLOWED.keys() - {"errors", "config", "session", "kernels", "", "jobs"}),
    ids=named,
)
def test_library_paths_work_without_a_jvm(path):
    """Spark Connect has neither a JVM beside Python nor RDDs."""
    if path == PACKAGE / "transport" / "scan.py":  # looks at a plan where there is a JVM; elsewhere Spark reads
        return
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
