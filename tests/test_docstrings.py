"""What a numpydoc docstring says its object takes is what the object takes; the examples in docstrings run."""

import ast
import re

import pytest
from import_graph import PACKAGE, every_module, name_of, tree_of

SECTION = re.compile(r"^([A-Z][A-Za-z ]+)\n-{3,}$", re.MULTILINE)
FUNCTIONS, CLASSES = ast.FunctionDef | ast.AsyncFunctionDef, ast.ClassDef


def section(docstring, name):
    """Return the names that a section describes in order, or None where there is no such section."""
    parts = SECTION.split(docstring)
    sections = dict(zip(parts[1::2], parts[2::2], strict=True))
    if name not in sections:
        return None
    heads = [line for line in sections[name].splitlines() if line and not line[0].isspace()]
    return [word.strip() for head in heads for word in head.split(" : ")[0].split(",")]


def arguments(function):
    """Return the names of a function's arguments, starred ones with their stars; without self and cls."""
    spec = function.args
    names = [arg.arg for arg in spec.posonlyargs + spec.args]
    names += [f"*{spec.vararg.arg}"] if spec.vararg else []
    names += [arg.arg for arg in spec.kwonlyargs]
    names += [f"**{spec.kwarg.arg}"] if spec.kwarg else []
    return [name for name in names if name not in ("self", "cls")]


def fields(cls):
    """Return what a class holds: annotated names in order (those of a dataclass or named tuple)."""
    return [part.target.id for part in cls.body if isinstance(part, ast.AnnAssign)]


def constructor(cls):
    """Return the names that an instance is made from."""
    for part in cls.body:
        if isinstance(part, FUNCTIONS) and part.name == "__init__":
            return arguments(part)
    made = [part for part in cls.body if isinstance(part, ast.AnnAssign)]
    return [part.target.id for part in made if "init=False" not in ast.unparse(part)]


def held(cls):
    """Return every name of an instance: fields, properties, and what its methods set."""
    properties = [part.name for part in cls.body if isinstance(part, FUNCTIONS) and part.decorator_list]
    assigned = [
        node.attr for node in ast.walk(cls) if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
    ]
    return {*fields(cls), *properties, *assigned}


def documented(node, outer=""):
    """Yield name and node of every function and class with a docstring, methods included."""
    for part in getattr(node, "body", []):
        if isinstance(part, FUNCTIONS | CLASSES):
            if ast.get_docstring(part):
                yield outer + part.name, part
            if isinstance(part, CLASSES):
                yield from documented(part, f"{outer}{part.name}.")
        elif isinstance(part, ast.If):
            yield from documented(part, outer)


def is_estimator(cls):
    return any(ast.unparse(base).endswith("Estimator") for base in cls.bases)


def wrong_names(name, node):
    """Yield what is wrong with one docstring."""
    text = ast.get_docstring(node)
    told, attributes = section(text, "Parameters"), section(text, "Attributes")
    if isinstance(node, FUNCTIONS):
        if told is not None and told != arguments(node):
            yield f"{name} documents {told}, takes {arguments(node)}"
        return
    if attributes is not None and not set(attributes) <= held(node):
        yield f"{name} has no attributes {set(attributes) - held(node)}"
    if told is None:
        return
    taken = constructor(node)
    if is_estimator(node):
        # Options that all estimators share are explained once, by explainParams() and the docstring of the estimators.
        if len(set(told)) != len(told) or not set(told) <= set(taken) | {"**params"} and "**params" not in taken:
            yield f"{name} documents {set(told) - set(taken)}, which it does not take"
    elif sorted(told) != sorted(taken):
        yield f"{name} documents {told}, is made from {taken}"


@pytest.mark.parametrize("path", every_module(), ids=name_of)
def test_parameters_are_those_of_the_signature(path):
    assert [wrong for name, node in documented(tree_of(path)) for wrong in wrong_names(name, node)] == []


def public_functions():
    """Yield module and node of each function that a package exports."""
    exported = {}
    for path in sorted(PACKAGE.rglob("__init__.py")):
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.ImportFrom):
                exported.setdefault(node.module, set()).update(alias.name for alias in node.names)
    for path in every_module():
        for node in tree_of(path).body:
            if isinstance(node, FUNCTIONS) and node.name in exported.get(name_of(path), ()):
                yield pytest.param(node, id=f"{name_of(path)}.{node.name}")


@pytest.mark.parametrize("function", public_functions())
def test_exported_functions_tell_what_they_take(function):
    assert not arguments(function) or section(ast.get_docstring(function) or "", "Parameters")


@pytest.mark.parametrize(
    ("told", "wrong"),
    [("a : int\nb, *rest : float", False), ("a : int", True), ("b : int\na, *rest : int", True), ("", True)],
)
def test_the_checker_sees_a_wrong_docstring(told, wrong):
    body = "\n".join(
        f"    {line}" for line in f"Sum.\n\nParameters\n----------\n{told}\n\nReturns\n-------\nint".splitlines()
    )
    tree = ast.parse(f'def f(a, b, *rest):\n    """\n{body}\n    """\n')
    assert bool(list(wrong_names(*next(documented(tree))))) == wrong
    tree = ast.parse(f'class F:\n    """\n{body}\n    """\n    def __init__(self, a, b, *rest): ...\n')
    assert bool(list(wrong_names(*next(documented(tree))))) == (wrong and not told.startswith("b"))
