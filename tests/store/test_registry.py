"""Model versions: published whole, replaced by run id, never numbered twice."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import reduce

import pytest
from pyspark.sql import DataFrame

from mfspark.errors import StoreError
from mfspark.store import Registry, tables


def model_tables(spark, value, ids=("a", "b"), id_type="string", rank=2):
    """A model whose factors are all ``value``, so that rows of two models cannot be mistaken."""
    factors = [(key, [float(value)] * rank, float(value)) for key in ids]
    indices = [(key, index) for index, key in enumerate(ids)]
    history = [(1, 2.0 * value, 1.5 * value, 0.5 * value, None, 0.1)]
    columns = "iteration int, loss double, fit double, regularisation double, validationRMSE double, seconds double"
    return {
        "user_factors": spark.createDataFrame(factors, f"id {id_type}, features array<float>, bias float"),
        "item_factors": spark.createDataFrame(factors, f"id {id_type}, features array<float>, bias float"),
        "user_ids": spark.createDataFrame(indices, f"id {id_type}, index int"),
        "item_ids": spark.createDataFrame(indices, f"id {id_type}, index int"),
        "history": spark.createDataFrame(history, columns),
    }


def values_of(registry, model):
    """The distinct values in both factor tables: one value when the model is whole."""
    read = registry.load(model, ["user_factors", "item_factors"])
    rows = [row for name in read for row in read[name].collect()]
    assert len(rows) == 4
    return {value for row in rows for value in row["features"]}


@pytest.fixture(scope="module")
def published(spark, tmp_path_factory):
    """A store with versions 1 and 2; tests that write take a store of their own."""
    registry = Registry(spark, str(tmp_path_factory.mktemp("store")))
    registry.publish_tables("run-1", model_tables(spark, 1), {"rank": 2}, {"rmse": 0.9})
    registry.publish_tables("run-2", model_tables(spark, 2, rank=3), {"rank": 3})
    return registry


def test_latest_number_and_run_id_find_a_model(published):
    assert [model.version for model in published.list()] == [1, 2]
    assert published.get().run_id == "run-2"
    assert published.get(version=1).metrics == {"rmse": 0.9}
    assert published.get(run_id="run-1").parameters == {"rank": 2}
    assert values_of(published, published.get(run_id="run-1")) == {1.0}
    assert values_of(published, published.get()) == {2.0}


def test_what_publish_returns_is_what_the_table_says(spark, tmp_path):
    """A new row is not read back."""
    registry = Registry(spark, str(tmp_path))
    for run, value in (("run-1", 1), ("run-2", 2), ("run-1", 3)):
        told = registry.publish_tables(run, model_tables(spark, value), {"rank": 2, "value": value}, {"rmse": 0.5})
        stored = registry.get(run_id=run)
        assert told == stored
        assert (told.created_at, told.parameters, told.metrics) == (
            stored.created_at, stored.parameters, stored.metrics
        )  # fmt: skip
        assert values_of(registry, told) == {float(value)}
    assert [model.version for model in registry.list()] == [1, 2]


def test_a_run_that_another_attempt_has_numbered_meanwhile_keeps_that_number(spark, tmp_path, monkeypatch):
    registry = Registry(spark, str(tmp_path))
    registry.publish_tables("other", model_tables(spark, 1), {})
    first = registry.publish_tables("run", model_tables(spark, 2), {})
    monkeypatch.setattr(registry._publisher, "_free_version", lambda _: 1)  # looked up before both of them
    second = registry.publish_tables("run", model_tables(spark, 3), {})
    assert (first.version, second.version) == (2, 2)
    assert [(model.version, model.run_id) for model in registry.list()] == [(1, "other"), (2, "run")]
    assert values_of(registry, second) == {3.0}


def test_every_table_comes_back_as_it_was_given(spark, published):
    ref_tables = model_tables(spark, 1)
    for name, comp_table in published.load(published.get(version=1)).items():
        if name == "parameters":
            assert [tuple(row) for row in comp_table.collect()] == [("rank", "2")]
        else:
            assert comp_table.schema.simpleString() == ref_tables[name].schema.simpleString()
            assert sorted(comp_table.collect()) == sorted(ref_tables[name].collect())


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"version": 7}, r"no model of version 7 in .*; published versions: 1 \(run run-1\), 2 \(run run-2\)"),
        ({"run_id": "nope"}, r"no model of run id 'nope' in .*; published versions: 1 \(run run-1\)"),
    ],
)
def test_what_does_not_exist_is_answered_by_what_does(published, wanted, message):
    with pytest.raises(StoreError, match=message):
        published.get(**wanted)


def test_an_empty_store_says_so(spark, tmp_path):
    with pytest.raises(StoreError, match="no model has been published"):
        Registry(spark, str(tmp_path)).get()


def test_an_unknown_table_is_answered_by_the_known_ones(published):
    with pytest.raises(StoreError, match="no table 'factors'; it has user_factors"):
        published.read(published.get(), "factors")


def without(name):
    return lambda spark: {key: table for key, table in model_tables(spark, 1).items() if key != name}


def lacking_column(spark):
    given = model_tables(spark, 1)
    return given | {"item_factors": given["item_factors"].drop("features")}


@pytest.mark.parametrize(
    ("make", "run_id", "message"),
    [
        (without("history"), "run-3", "lacks the table 'history'"),
        (lacking_column, "run-3", "table item_factors .* lacks the column 'features'"),
        (
            lambda spark: model_tables(spark, 1, (1, 2), "bigint"),
            "run-3",
            "column id is bigint here but string in .*user_",
        ),
        (lambda spark: model_tables(spark, 1), "run 3/..", "run id 'run 3/..' is not usable"),
    ],
    ids=["table", "column", "id type", "run id"],
)
def test_a_model_that_does_not_fit_is_refused_before_a_row_is_written(spark, published, make, run_id, message):
    before = tables.read(spark, published.location.table("user_factors")).count()
    with pytest.raises(StoreError, match=message):
        published.publish_tables(run_id, make(spark), {})
    assert tables.read(spark, published.location.table("user_factors")).count() == before
    assert [model.version for model in published.list()] == [1, 2]


def test_a_rerun_replaces_its_run_and_a_reader_of_the_old_attempt_is_told(spark, tmp_path):
    registry = Registry(spark, str(tmp_path))
    first = registry.publish_tables("run-1", model_tables(spark, 1), {"rank": 2})
    registry.publish_tables("run-2", model_tables(spark, 2), {"rank": 2})
    second = registry.publish_tables("run-1", model_tables(spark, 3), {"rank": 2, "seed": 3})
    assert (second.version, second.run_id) == (1, "run-1")
    assert second.attempt != first.attempt
    assert values_of(registry, registry.get(version=1)) == {3.0}
    assert values_of(registry, registry.get()) == {2.0}
    assert tables.read(spark, registry.location.table("user_factors")).count() == 4
    with pytest.raises(StoreError, match="version 1 .* was replaced by a re-run"):
        registry.read(first, "user_factors")


def test_an_older_attempt_that_comes_last_is_void(spark, tmp_path, monkeypatch):
    registry = Registry(spark, str(tmp_path))
    registry.publish_tables("run-1", model_tables(spark, 1), {})
    monkeypatch.setattr("mfspark.store.publishing._new_attempt", lambda: "19990101T000000000000-slow")
    with pytest.raises(StoreError, match="published by a later attempt as version 1; this one is void"):
        registry.publish_tables("run-1", model_tables(spark, 2), {})
    assert values_of(registry, registry.get()) == {1.0}


def test_publishers_at_once_get_a_number_each(spark, tmp_path):
    registry = Registry(spark, str(tmp_path))
    given = {run: model_tables(spark, run) for run in (1, 2, 3, 4)}
    with ThreadPoolExecutor(4) as pool:
        jobs = {run: pool.submit(registry.publish_tables, f"run-{run}", given[run], {"run": run}) for run in given}
        comp_versions = {run: job.result().version for run, job in jobs.items()}
    assert sorted(comp_versions.values()) == [1, 2, 3, 4]
    for run, version in comp_versions.items():
        assert values_of(registry, registry.get(version=version)) == {float(run)}


def test_the_same_run_published_twice_at_once_leaves_one_whole_model(spark, tmp_path):
    registry = Registry(spark, str(tmp_path))
    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(registry.publish_tables, "run-1", model_tables(spark, value), {}) for value in (1, 2)]
        errors = [job.exception() for job in jobs]
    assert sum(error is None for error in errors) >= 1
    assert all(error is None or "later attempt" in str(error) for error in errors)
    assert len(registry.list()) == 1
    assert values_of(registry, registry.get()) in ({1.0}, {2.0})


def attempts(spark, registry):
    """How many attempts have rows in each table, visible or not."""
    read = [tables.read(spark, registry.location.table(name)).selectExpr(f"'{name}'", "attempt") for name in ORDER]
    found = Counter(row[0] for row in reduce(DataFrame.union, read).distinct().collect())
    return [found[name] for name in ORDER]


class Killed(BaseException):
    """Ends a publication where no handler can tidy up, as kill -9 does (tests/jobs kills a real training process)."""


ORDER = ["model_user_ids", "user_factors", "item_factors", "model_item_ids", "history", "parameters"]


@pytest.mark.parametrize("written", [1, 2, 6], ids=lambda count: f"{count} of 6")
def test_a_killed_publication_is_invisible_and_its_rerun_succeeds(spark, tmp_path, monkeypatch, written):
    registry = Registry(spark, str(tmp_path))
    registry.publish_tables("run-1", model_tables(spark, 1), {"rank": 2})
    append = tables.append

    def append_then_die(df, address, *args, **kwargs):
        name = address.rsplit("/", 1)[1]
        if name in ORDER[:written]:
            append(df, address, *args, **kwargs)
        if name != ORDER[0] or written == 1:
            raise Killed

    monkeypatch.setattr(tables, "append", append_then_die)
    with pytest.raises(Killed):
        registry.publish_tables("run-2", model_tables(spark, 9), {"rank": 2})
    monkeypatch.undo()
    # The killed attempt's rows are in some tables, and no reader sees them.
    assert attempts(spark, registry) == [2] * written + [1] * (len(ORDER) - written)
    assert [model.run_id for model in registry.list()] == ["run-1"]
    assert values_of(registry, registry.get()) == {1.0}
    rerun = registry.publish_tables("run-2", model_tables(spark, 2), {"rank": 2})
    assert rerun.version == 2
    assert values_of(registry, registry.get()) == {2.0}
    assert values_of(registry, registry.get(version=1)) == {1.0}
    assert attempts(spark, registry) == [2] * len(ORDER)
