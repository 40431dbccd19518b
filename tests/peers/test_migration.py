"""Every parameter and method of the peers stands in mfspark/MIGRATION.md, and what it names in mfspark is there."""

import inspect
import pydoc
import re

import numpy as np
import pyarrow as pa
import pytest
import scipy.sparse
from pages import ROOT
from pyspark.ml.recommendation import ALS, ALSModel

import mfspark
from mfspark.model.factorization import Factorization

PAGE = (ROOT / "mfspark" / "MIGRATION.md").read_text(encoding="utf-8")
# AlternatingLeastSquares of implicit 0.7.3, which is in the extra `bench` only; where it is there, it is asked.
IMPLICIT_PARAMETERS = (
    "factors", "regularization", "alpha", "dtype", "use_native", "use_cg", "iterations", "calculate_training_loss",
    "num_threads", "random_state",
)  # fmt: skip
IMPLICIT_ATTRIBUTES = (
    "XtX", "YtY", "cg_steps", "fit_callback", "item_factors", "item_norms", "solver", "user_factors", "user_norms",
)  # fmt: skip
IMPLICIT_METHODS = {
    "explain": ("userid", "user_items", "itemid", "user_weights", "N"),
    "fit": ("user_items", "show_progress", "callback"),
    "load": ("fileobj_or_path",),
    "partial_fit_items": ("itemids", "item_users"),
    "partial_fit_users": ("userids", "user_items"),
    "rank_items": ("userid", "user_items", "selected_items", "recalculate_user"),
    "recalculate_item": ("itemid", "item_users"),
    "recalculate_user": ("userid", "user_items"),
    "recommend": (
        "userid", "user_items", "N", "filter_already_liked_items", "filter_items", "recalculate_user", "items",
    ),
    "recommend_all": (
        "user_items", "N", "recalculate_user", "filter_already_liked_items", "filter_items", "users_items_offset",
    ),
    "save": ("fileobj_or_path",),
    "similar_items": ("itemid", "N", "recalculate_item", "item_users", "filter_items", "items"),
    "similar_users": ("userid", "N", "filter_users", "users"),
    "to_gpu": (),
}  # fmt: skip
TABLES = ("MLlib: ALS", "MLlib: ALSModel", "implicit", "cmfrec", "LIBMF")
KINDS = {"MLlib: ALS": mfspark.ALS, "MLlib: ALSModel": mfspark.ALSModel}
THE_SAME = "the same"


def rows(title):
    """Return a section's table: the code of the first column, of the second, and the text of the second."""
    section = PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]
    lines = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| ")]
    return [(code(cells[0]), code(cells[1]), cells[1]) for cells in lines[1:]]


def code(cell):
    return re.findall(r"`([^`]+)`", cell)


def public(kind):
    return {name for name in dir(kind) if not name.startswith("_")}


@pytest.mark.parametrize(("title", "kind"), [("MLlib: ALS", ALS), ("MLlib: ALSModel", ALSModel)])
def test_every_name_of_mllib_is_in_the_table_once(title, kind):
    told = [name for names, _, _ in rows(title) for name in names]
    assert sorted(told) == sorted(public(kind))


@pytest.mark.parametrize("title", KINDS)
def test_what_is_the_same_has_the_same_name(title):
    kind = KINDS[title]
    for names, _, cell in rows(title):
        assert cell.startswith(THE_SAME)
        assert [name for name in names if not has(kind, name)] == []


def has(kind, name):
    """Return whether a class has a name, or its instances the setter or getter of that name."""
    return hasattr(kind, name) or (name[:3] in ("get", "set") and hasattr(kind(), name))


def test_every_parameter_attribute_and_method_of_implicit_is_in_the_table():
    told = [name for names, _, _ in rows("implicit") for name in names if not name.startswith("evaluation.")]
    methods = [f"{name}({', '.join(arguments)})" for name, arguments in IMPLICIT_METHODS.items()]
    assert sorted(told) == sorted([*IMPLICIT_PARAMETERS, *IMPLICIT_ATTRIBUTES, *methods])


def test_every_argument_of_implicits_methods_is_spoken_of():
    section = PAGE.split("\n## implicit\n")[1].split("\n## ")[0]
    plain = {"userids", "itemid", "itemids", "fileobj_or_path"}
    arguments = {name for names in IMPLICIT_METHODS.values() for name in names} - plain
    assert {name for name in arguments if f"`{name}`" not in section} == set()


def test_the_list_of_implicit_is_its_own():
    als = pytest.importorskip("implicit.cpu.als").AlternatingLeastSquares
    members = {name: member for name, member in inspect.getmembers(als) if not name.startswith("_")}
    found = {name: tuple(inspect.signature(member).parameters) for name, member in members.items() if callable(member)}
    ref = {name: tuple(taken for taken in names if taken != "self") for name, names in found.items()}
    assert ref == IMPLICIT_METHODS
    assert tuple(inspect.signature(als.__init__).parameters)[1:] == IMPLICIT_PARAMETERS
    held = {name for name in vars(als()) if not name.startswith("_")} | (members.keys() - found.keys())
    assert held == {*IMPLICIT_ATTRIBUTES, *IMPLICIT_PARAMETERS}


@pytest.mark.parametrize("title", TABLES)
def test_what_the_tables_name_in_mfspark_is_there(title):
    found = rows(title)
    assert len(found) >= 9
    for theirs, ours, cell in found:
        assert ours or cell.startswith((THE_SAME, "none")), theirs
        assert [name for name in ours if not resolves(name)] == [], theirs


def resolves(name):
    """Return whether ``Class.name``, ``keyword=value`` of ALS, a call with keywords, or a dotted name is ours."""
    if call := re.fullmatch(r"(\w+)\((.+)\)", name):
        getattr(mfspark, call[1])(**eval(f"dict({call[2]})"))
        return True
    if re.fullmatch(r"\w+=\S+", name):
        mfspark.ALS(**eval(f"dict({name})"))
        return True
    if name.startswith("mfspark."):
        return pydoc.locate(name) is not None
    return pydoc.locate(f"mfspark.{name}") is not None


@pytest.mark.parametrize("name", ["ALS.regParamUsr", "regparm=0.1", "SGD(rnk=8)", "mfspark.store.Registri", "nothing"])
def test_a_name_that_is_not_there_is_seen(name):
    try:
        assert not resolves(name)
    except (TypeError, mfspark.ParameterError) as error:
        assert "parameter" in str(error) or "argument" in str(error)  # noqa: PT017


def test_the_settings_told_for_implicit_solve_its_equations():
    als = pytest.importorskip("implicit.cpu.als").AlternatingLeastSquares
    rng = np.random.default_rng(5)
    theirs = als(factors=8, regularization=0.3, alpha=2.5)
    theirs.item_factors = rng.normal(size=(40, 8)).astype(np.float32)
    rated = {3: 1.0, 7: 4.0, 21: 2.0, 22: -1.5}
    row = scipy.sparse.csr_matrix((list(rated.values()), ([0] * 4, list(rated))), shape=(1, 40), dtype=np.float32)
    told = dict(rank=8, regParam=0.3, regExponent=0.0, implicitPrefs=True, confidence="linear", alpha=2.5)
    settings = mfspark.ALS(**told)._settings()
    items = np.zeros((40, settings.padded), np.float32)
    items[:, :8] = theirs.item_factors
    sides = np.zeros((1, settings.padded), np.float32), items
    ours = mfspark.LocalModel(Factorization(settings, (pa.array([0]), pa.array(range(40))), sides))
    np.testing.assert_allclose(ours.fold_in(rated)[:8], theirs.recalculate_user(0, row), rtol=1e-4, atol=1e-5)
