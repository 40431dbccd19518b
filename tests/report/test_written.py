"""Reports of a tiny store: the page that the jobs write, and the numbers of ``model.report`` against plain ones."""

import logging

import numpy as np
import pytest
from made import HOSTILE
from pyspark.sql import functions as F

from mfspark import load_model
from mfspark.config import parse
from mfspark.errors import ConfigError, DataError
from mfspark.pipeline import evaluate, ingest, train
from mfspark.pipeline.ratings import with_holdout
from mfspark.pipeline.reporting import write_report
from mfspark.report import numbers
from mfspark.store import Registry, tables


@pytest.fixture(scope="module")
def store(spark, tmp_path_factory):
    """Two versions of a store, of which the second has a report of its training and then of its evaluation."""
    folder = tmp_path_factory.mktemp("report")
    rows = [f"u{u}::i{i}::{1 + (u * i + u) % 5}" for u in range(30) for i in range(12) if (u + i) % 4]
    rows += [f"{HOSTILE}::i1::3", f"u1::{HOSTILE}::9", "u1"]
    (folder / "ratings.dat").write_text("\n".join(rows) + "\n", encoding="utf-8")
    # A title that is markup, and two of one item.
    titles = spark.createDataFrame(
        [("i1", HOSTILE), ("i2", "Second"), ("i2", "Also second")], "item string, title string"
    )
    titles.write.parquet(str(folder / "titles"))
    raw = {
        "store": {"location": str(folder / "store")},
        "source": {"path": str(folder / "ratings.dat"), "format": "movielens", "id_type": "string", "header": False},
        "quality": {"min_rating": 1, "max_rating": 5},
        "als": {"rank": 2, "maxIter": 2},
        "evaluate": {"k": 3},
    }
    shown = {
        "report": {"path": str(folder / "pages"), "titles": str(folder / "titles")},
        "als": {"rank": 3, "maxIter": 2},
    }
    ingest(spark, parse(raw), "run-0")
    train(spark, parse(raw), "run-1")
    train(spark, parse(raw | shown), "run-2")
    page = folder / "pages" / "model-2.html"
    first = page.read_text(encoding="utf-8")
    evaluate(spark, parse(raw | shown), "run-2")
    return parse(raw | shown), first, page.read_text(encoding="utf-8")


def part(html, name):
    return html.split(f'<section id="{name}">')[1].split("</section>")[0]


def test_the_jobs_write_a_page_of_the_version(store):
    _, trained, evaluated = store
    assert "Not evaluated yet" in part(trained, "metrics")
    assert all(f"<td>{stage}</td>" in part(trained, "seconds") for stage in ("check", "blocks", "publish"))
    assert "<h1>FactorizationModel of rank 3, version 2</h1>" in evaluated
    assert "run run-2" in evaluated
    for name in ("training", "metrics", "errors", "compared", "ratings", "factors", "neighbours", "quality", "lineage"):
        assert 'class="absent"' not in part(evaluated, name), name
    assert "<td>rmse</td>" in part(evaluated, "metrics")
    assert "<th>mean only</th>" in part(evaluated, "metrics")
    assert "<td>rank</td><td>2</td><td>3</td>" in part(evaluated, "compared")
    assert "273 rows in = 271 accepted + 2 rejected" in part(evaluated, "quality")
    assert "Also second" in part(evaluated, "neighbours")
    assert "<td>split.fraction</td><td>0.1</td>" in part(evaluated, "parameters")
    assert HOSTILE not in evaluated


def test_the_report_of_a_model_shows_the_numbers_of_its_ratings(spark, store, tmp_path):
    config, _, _ = store
    registry = Registry(spark, config.store.location)
    model = load_model(registry, 2).setParams(userCol="user", itemCol="item", coldStartStrategy="drop")
    record = registry.get(2).parameters["training"]
    marked = with_holdout(spark, tables.read(spark, record["ratings"], record["ratings_version"]), record["split"])
    train, held_out = marked.where("NOT validation"), marked.where("validation")
    report = model.report(tmp_path / "new" / "page.html", train, {"i1": "First"}, held_out)
    assert (tmp_path / "new" / "page.html").read_text(encoding="utf-8") == report.html
    facts = report.facts

    known = [(row.user, row.item, row.rating) for row in train.select("user", "item", "rating").collect()]
    sizes = [{key: sum(row[at] == key for row in known) for key in {row[at] for row in known}} for at in (0, 1)]
    asked = model.transform(held_out, {model.coldStartStrategy: "nan"}).collect()
    ref = numbers.errors(
        "ratings held out from training",
        np.array([row.rating for row in asked]),
        np.array([row.prediction for row in asked]),
        tuple(np.array([size.get(row[at], 0) for row in asked]) for at, size in enumerate(sizes)),
    )
    assert facts.errors.rmse == pytest.approx(ref.rmse)
    assert (facts.errors.sample, facts.errors.unpredicted) == (ref.sample, ref.unpredicted)
    assert [(g.low, g.ratings) for g in facts.errors.by_user] == [(g.low, g.ratings) for g in ref.by_user]
    assert [g.rmse for g in facts.errors.by_item] == pytest.approx([g.rmse for g in ref.by_item])
    assert facts.ratings.count == len(known)
    assert {b.low: b.count for b in facts.ratings.values} == {v: sum(row[2] == v for row in known) for v in range(1, 6)}
    for bins, size in ((facts.ratings.users, sizes[0]), (facts.ratings.items, sizes[1])):
        assert [b.count for b in bins] == [sum(b.low <= n <= b.high for n in size.values()) for b in bins]
        assert sum(b.count for b in bins) == len(size)
    sides = [model.fitted.features(side).astype(np.float64) for side in (0, 1)]
    ref_spectrum = np.linalg.svd(sides[0] @ sides[1].T, compute_uv=False)[:3]
    np.testing.assert_allclose(facts.spectrum, ref_spectrum, rtol=1e-6)
    best = sorted(sizes[1], key=lambda key: (-sizes[1][key], key))
    assert [item.id for item in facts.known] == best[:8]
    assert [(point.id, point.ratings) for point in facts.map.points] == [(key, sizes[1][key]) for key in best]
    assert {point.title for point in facts.map.points if point.id == "i1"} == {"First"}
    near = {row.item: [r.item for r in row.recommendations] for row in model.similarItems(best[:1], 5).collect()}
    assert [other.id for other in facts.known[0].neighbours] == near[best[0]]


def test_a_report_that_cannot_be_made_is_a_warning(spark, store, caplog, tmp_path):
    config, _, _ = store
    (tmp_path / "file").write_text("no folder")
    version = Registry(spark, config.store.location).get(2)
    broken = config.model_copy(update={"report": config.report.model_copy(update={"titles": str(tmp_path / "none")})})
    with caplog.at_level(logging.WARNING, logger="mfspark"):
        assert write_report(spark, broken, version, None) is None
    assert "no report of version 2: " in caplog.text


def test_titles_that_cannot_be_read_are_refused_before_training(spark, store, tmp_path):
    config, _, _ = store
    (tmp_path / "titles.csv").write_text("item,name\n1,One\n")
    for name, message in (("none", "report.titles"), ("titles.csv", "no column 'title'")):
        report = config.report.model_copy(update={"titles": str(tmp_path / name)})
        with pytest.raises(DataError, match=message):
            train(spark, config.model_copy(update={"report": report}), "run-3")


def test_ratings_without_the_column_are_refused(store, spark):
    config, _, _ = store
    model = load_model(Registry(spark, config.store.location), 2)
    with pytest.raises(DataError, match="no column 'stars'"):
        model.report(ratings=spark.range(1).withColumn("user", F.lit("u")), ratingCol="stars")


@pytest.mark.parametrize("report", [{"path": "s3://bucket/pages"}, {"titles": "titles.csv"}])
def test_report_keys_that_cannot_work_are_refused(report):
    with pytest.raises(ConfigError, match=r"report\."):
        parse({"store": {"location": "x"}, "report": report})
