"""The Python blocks of every page and the examples of every docstring run."""

import ast
import doctest
import re
from importlib import import_module

import pytest
from contract import checkerboard
from import_graph import every_module, name_of
from pages import blocks, pages
from pyspark.sql import functions as F

# Where examples write: the test's folder instead, and absolute, since the JVM has a working directory of its own.
PLACES = re.compile(r"catalog\.schema|/data/store|models/als|ratings\.csv")
# Names that an example may use without saying where they come from.
NEED_SPARK = {"spark", "ratings", "labels", "model", "pairs", "new_ratings"}


@pytest.fixture(scope="module")
def given(spark):
    """Return the names that examples use: ratings with string items, a hold-out, and a fitted model."""
    from mfspark import ALS

    ratings = checkerboard(spark).withColumn("item", F.concat(F.lit("B00005JN"), F.col("item")))
    ratings = ratings.withColumn("held_out", (F.col("user") * 3 + F.length("item")) % 7 == 0).persist()
    rows = [(1, "B00005JNBQ", 5.0, False), (2, "B00005JNBQ", 1.0, False)]
    ratings = ratings.unionByName(spark.createDataFrame(rows, ratings.schema)).persist()
    return {
        "spark": spark,
        "ratings": ratings,
        "labels": ratings.withColumn("rating", (F.col("rating") > 3).cast("float")),
        "pairs": ratings.select("user", "item"),
        "more_ratings": ratings,
        "numbered": checkerboard(spark).coalesce(1),
        "new_ratings": ratings.where("user < 3").withColumn("user", F.col("user") + 1000),
        "model": ALS(rank=2, maxIter=2).fit(ratings),
    }


PYTHON = [
    (page, number, block) for page, text in pages().items() for number, block in enumerate(blocks(text, "python"), 1)
]


def moved(source, folder):
    return PLACES.sub(lambda place: str(folder / re.sub(r"\W", "-", place[0])), source)


@pytest.mark.parametrize(("page", "number", "source"), PYTHON, ids=[f"{page}-{number}" for page, number, _ in PYTHON])
def test_the_pages(given, page, number, source, tmp_path):
    if "ratings.csv" in source:
        given["ratings"].select("user", "item", "rating").toPandas().to_csv(moved("ratings.csv", tmp_path), index=False)
    exec(compile(moved(source, tmp_path), f"{page}, Python block {number}", "exec"), dict(given))


def examples():
    """Return every docstring with examples, by its name."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    found = {}
    for path in every_module():
        module = import_module(name_of(path))
        found |= {test.name: test for test in finder.find(module, name_of(path)) if test.examples}
    return found


class Checker(doctest.OutputChecker):
    """An example that shows no output may have one."""

    def check_output(self, want, got, optionflags):
        return not want or super().check_output(want, got, optionflags)


def run(test, names, capsys):
    """Run a docstring's examples; what fails is in the message."""
    told = []
    test.globs.update(names)
    assert not any(doctest.SKIP in example.options for example in test.examples)
    failed = doctest.DocTestRunner(Checker(), optionflags=doctest.ELLIPSIS).run(test, out=told.append).failed
    capsys.readouterr()
    assert not failed, "".join(told)


def names_of(test):
    trees = [ast.parse(example.source) for example in test.examples]
    return {node.id for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Name)}


EXAMPLES = examples()
ON_SPARK = {name for name, test in EXAMPLES.items() if NEED_SPARK & names_of(test)}


@pytest.mark.parametrize("name", sorted(EXAMPLES.keys() - ON_SPARK))
def test_docstrings(name, capsys):
    run(EXAMPLES[name], {}, capsys)


@pytest.mark.parametrize("name", sorted(ON_SPARK))
def test_docstrings_on_spark(name, given, tmp_path, capsys):
    for example in EXAMPLES[name].examples:
        example.source = moved(example.source, tmp_path)
    run(EXAMPLES[name], given, capsys)


def test_a_wrong_example_is_seen(capsys):
    wrong = doctest.DocTestParser().get_doctest(">>> 1 + 1\n3\n", {}, "wrong", None, 0)
    with pytest.raises(AssertionError, match="Expected"):
        run(wrong, {}, capsys)
