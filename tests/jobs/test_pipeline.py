"""The jobs end to end on one store: what they write, what the next one reads, and what a repeated run changes."""

import pytest
from pyspark.sql import functions as F

from mfspark.config import ESTIMATORS, parse
from mfspark.data import random_split
from mfspark.errors import ConfigError, DataError, ParameterError, StoreError
from mfspark.pipeline import evaluate, ingest, predict, train
from mfspark.pipeline.command import summary
from mfspark.pipeline.ratings import keeping
from mfspark.pipeline.training import estimator_of
from mfspark.store import Registry, tables

SIZES = {"n_users": 300, "n_items": 120, "n_ratings": 9_000, "noise": 0.3}
ALS = {"rank": 4, "maxIter": 3, "seed": 1, "userBias": True, "itemBias": True, "center": True}
GOOD = ["ann::1::5", "ann::2::3", "bob::1::4", "bob::3::1", "cyd::2::2", "cyd::3::5"]


def configuration(location, **sections):
    raw = {"store": {"location": str(location)}, "quality": {"min_rating": 1, "max_rating": 5}, "als": ALS}
    return parse(raw | sections)


def replace(section, /, **changes):
    """A copy of a checked configuration with other values, unchecked."""
    return section.model_copy(update=changes)


def read(spark, config, name):
    return tables.read(spark, f"{config.store.location}/{name}")


@pytest.fixture(scope="module")
def done(spark, tmp_path_factory):
    """A store after ingest, train, evaluate and predict under one run id: the configuration and the reports."""
    synthetic = {"format": "synthetic", "seed": 5, "options": SIZES}
    config = configuration(tmp_path_factory.mktemp("store"), source=synthetic, evaluate={"k": 5, "segments": True})
    return config, [job(spark, config, "run-1") for job in (ingest, train, evaluate, predict)]


def text_config(tmp_path, lines, **sections):
    path = tmp_path / "ratings.dat"
    path.write_text("\n".join(lines) + "\n")
    source = {"path": str(path), "format": "movielens", "id_type": "string", "header": False}
    return configuration(tmp_path / "store", source=source | sections.pop("source", {}), **sections)


def test_ingest_reports_what_it_wrote(spark, done):
    config, (report, *_) = done
    assert (report.rows_in, report.accepted, report.rejected) == (9_000, 9_000, 0)
    assert (report.users, report.items) == (300, 120)
    ratings = read(spark, config, "ratings")
    assert ratings.columns == ["user", "item", "rating", "timestamp", "run_id"]
    assert ratings.count() == 9_000
    assert {address.rsplit("/", 1)[1] for address in report.tables} == {"ratings", "quarantine", "ingest_log"}
    for side in ("user", "item"):  # nothing reads them: a model publishes the numbers it gave its ids
        assert not tables.exists(spark, f"{config.store.location}/{side}_ids")
    logged = read(spark, config, "ingest_log").collect()
    assert [(row["run_id"], row["rows_in"], row["ratings_version"]) for row in logged] == [("run-1", 9_000, 0)]


def test_train_publishes_the_model_and_its_loss(done, spark):
    config, (_, report, *_) = done
    losses = [row["loss"] for row in report.history]
    assert losses == sorted(losses, reverse=True)
    assert len(losses) == 3
    model = Registry(spark, config.store.location).get(run_id="run-1")
    assert (model.version, model.metrics["loss"]) == (1, losses[-1])
    assert model.parameters["training"]["ratings_version"] == 0
    assert model.parameters["training"]["split"]["fraction"] == 0.1


def test_evaluate_compares_with_baselines_and_the_noise_floor(spark, done):
    config, (_, trained, report, _) = done
    own, bias_only, mean_only = (report.ratings[name] for name in ("", "bias_only", "mean_only"))
    assert own.rmse < bias_only.rmse < mean_only.rmse
    # Rounding to whole ratings adds about 1/12 to the variance of the noise.
    assert report.noise_floor == pytest.approx((0.3**2 + 1 / 12) ** 0.5, abs=0.05)
    assert report.noise_floor < own.rmse
    assert own.rmse == pytest.approx(trained.history[-1]["validationRMSE"], abs=0.02)
    assert set(report.rankings) == {"", "popular", "bias_only"}
    for ranking in report.rankings.values():
        assert set(ranking) >= {"precisionAtK", "ndcgAtK", "areaUnderROC", "noveltyAtK", "popularityAtK"}
    popularity = {name: ranking["popularityAtK"] for name, ranking in report.rankings.items()}
    assert popularity["popular"] > max(popularity[""], popularity["bias_only"])
    rows = {row["metric"]: row["value"] for row in read(spark, config, "metrics").collect()}
    assert rows["popular_ndcgAtK"] == report.rankings["popular"]["ndcgAtK"]
    segments = read(spark, config, "segments").where("metric IN ('rmse', 'ndcgAtK')").collect()
    assert {(row["run_id"], row["model_version"], row["segment"]) for row in segments} == {
        ("run-1", 1, "user"), ("run-1", 1, "item")
    }  # fmt: skip
    assert any("popularity baseline" in line for line in report.lines())
    stored = {row["metric"]: row["value"] for row in read(spark, config, "metrics").collect()}
    assert stored == pytest.approx(report.metrics())


def test_the_summary_names_counts_losses_baselines_and_tables(done):
    _, reports = done
    text = "\n".join(summary("run-1", reports))
    for part in ("9,000 in = 9,000 accepted + 0 rejected", "users        300", "items        120", "noise floor"):
        assert part in text
    for part in ("mean-only baseline", "bias-only baseline", "/ratings", "/user_factors", "/models", "/metrics"):
        assert part in text
    assert text.count("/ratings\n") == 1


def test_predict_recommends_unseen_items_to_every_user(spark, done):
    config, (*_, report) = done
    rows = read(spark, config, "recommendations")
    assert sorted(rows.columns) == ["item", "model_version", "prediction", "rank", "run_id", "user"]
    trained = random_split(read(spark, config, "ratings"), 0.1, seed=1).where("NOT validation")
    counts = [row["count"] for row in trained.groupBy("user").count().collect()]
    # Who has rated nearly everything has fewer than 10 items left.
    assert report.rows == rows.count() == sum(min(10, 120 - count) for count in counts)
    assert rows.join(trained, ["user", "item"]).count() == 0
    best = rows.where("user = 1").orderBy("rank").collect()
    assert [row["rank"] for row in best] == list(range(1, 11))
    assert [row["prediction"] for row in best] == sorted((row["prediction"] for row in best), reverse=True)


def test_predict_obeys_the_rules_of_the_configuration(spark, done, tmp_path):
    config, _ = done
    plain = read(spark, config, "recommendations").where("run_id = 'run-1'").collect()
    first = {row["user"]: row["item"] for row in plain if row["rank"] == 1}
    everywhere = first[1]
    (tmp_path / "deny.csv").write_text(f"item\n{everywhere}\nnothing\n")
    (tmp_path / "seen.csv").write_text("user,item\n" + "".join(f"{u},{i}\n" for u, i in first.items()))
    least = sorted(row["prediction"] for row in plain)[len(plain) // 2]
    rules = {"deny": str(tmp_path / "deny.csv"), "seen": str(tmp_path / "seen.csv"), "min_score": least}
    predict(spark, replace(config, predict=replace(config.predict, **rules)), "by-rules")
    rows = read(spark, config, "recommendations").where("run_id = 'by-rules'").collect()
    assert 0 < len(rows) < len(plain) and min(row["prediction"] for row in rows) >= least
    assert everywhere not in {row["item"] for row in rows}
    assert not [row for row in rows if first[row["user"]] == row["item"]]
    (tmp_path / "wrong.csv").write_text("user\n1\n")
    with pytest.raises(DataError, match="no column 'item'"):
        wrong = replace(config.predict, allow=str(tmp_path / "wrong.csv"))
        predict(spark, replace(config, predict=wrong), "bad-rules")


def model_ids(spark, config):
    return sorted((row["id"], row["index"]) for row in read(spark, config, "model_user_ids").collect())


def test_repeating_the_run_changes_no_count(spark, done):
    config, _ = done
    names = ("ratings", "quarantine", "ingest_log", "model_user_ids", "user_factors", "models")
    before = {name: read(spark, config, name).count() for name in names}
    ids = model_ids(spark, config)
    for job in (ingest, train):
        job(spark, config, "run-1")
    assert {name: read(spark, config, name).count() for name in names} == before
    assert model_ids(spark, config) == ids
    assert [model.version for model in Registry(spark, config.store.location).list()] == [1]


@pytest.mark.parametrize("kind", ["csv", "table"])
def test_predict_answers_given_pairs(spark, done, tmp_path, kind):
    config, _ = done
    path = str(tmp_path / f"pairs.{kind}")
    if kind == "csv":
        (tmp_path / "pairs.csv").write_text("user,item\n1,2\n3,4\n999999,1\n")
    else:
        tables.overwrite(spark.createDataFrame([(1, 2), (3, 4), (999999, 1)], "user long, item long"), path)
    chosen = replace(config, predict=replace(config.predict, mode="pairs", pairs=path))
    report = predict(spark, chosen, f"pairs-{kind}")
    rows = read(spark, config, "predictions").where(F.col("run_id") == f"pairs-{kind}").collect()
    found = {(row["user"], row["item"]): row["prediction"] for row in rows}
    assert report.rows == 3
    assert found[(999999, 1)] is None
    assert all(1 <= found[pair] <= 5 for pair in [(1, 2), (3, 4)])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("user,thing\n1,2\n", "no column 'item'; the columns are user, thing"),
        ("user,item\nann,2\n1,\n", "column 'user' has 1 values that are null or no bigint"),
        (None, "is no table, Parquet folder or csv file"),
    ],
)
def test_pairs_that_cannot_be_used(spark, done, tmp_path, text, message):
    config, _ = done
    path = tmp_path / "pairs.csv"
    if text:
        path.write_text(text)
    chosen = replace(config, predict=replace(config.predict, mode="pairs", pairs=str(path)))
    with pytest.raises(DataError, match=message):
        predict(spark, chosen, "bad-pairs")


def test_rejected_rows_are_in_the_quarantine_with_their_reason(spark, tmp_path):
    config = text_config(tmp_path, [*GOOD, "dan::1::9", "::1::3", "eve::2::x", "ann::1::5"])
    report = ingest(spark, config, "run-1")
    assert (report.rows_in, report.accepted, report.rejected) == (10, 6, 4)
    rows = read(spark, config, "quarantine").collect()
    assert sorted((row["raw"], row["run_id"]) for row in rows) == [
        ("::1::3", "run-1"), ("ann::1::5", "run-1"), ("dan::1::9", "run-1"), ("eve::2::x", "run-1"),
    ]  # fmt: skip
    assert sum(report.reasons.values()) == 4
    assert all(row["reason"] in report.reasons for row in rows)


def test_appended_runs_add_up_once(spark, tmp_path):
    config = text_config(tmp_path, GOOD, source={"mode": "append"}, split={"method": "none"})
    ingest(spark, config, "day-1")
    # A store of an older version has id tables, which stay as they are. ann rates item 1 again.
    old = f"{config.store.location}/user_ids"
    tables.overwrite(spark.createDataFrame([("ann", 0)], "id string, index long"), old)
    later = text_config(tmp_path, ["aaa::1::4", "ann::1::1"], source={"mode": "append"}, split={"method": "none"})
    for _ in range(2):
        report = ingest(spark, later, "day-2")
    assert read(spark, config, "ratings").count() == 8
    assert (report.users, report.items) == (2, 1)
    assert [tuple(row) for row in tables.read(spark, old).collect()] == [("ann", 0)]
    trained = train(spark, later, "day-2")
    assert trained.history[-1]["validationRMSE"] is None
    # The pair of ann and 1 counts once.
    model = Registry(spark, config.store.location).get()
    assert model.parameters["training"]["ratings_version"] == 2
    assert Registry(spark, config.store.location).read(model, "user_ids").count() == 4
    with pytest.raises(DataError, match="version 1 was trained without a hold-out"):
        evaluate(spark, later, "day-2")


def test_train_reads_a_path_without_ingest(spark, tmp_path):
    lines = [f"u{user}::{item}::{1 + (user * item) % 5}" for user in range(20) for item in range(8)]
    config = text_config(tmp_path, [*lines, "broken"], split={"fraction": 0.2})
    config = replace(config, train=replace(config.train, path=config.source.path))
    train(spark, config, "direct")
    assert [row["raw"] for row in read(spark, config, "quarantine").collect()] == ["broken"]
    report = evaluate(spark, config, "direct")
    assert report.ratings[""].predicted > 0
    assert report.noise_floor is None


def test_settings_the_estimator_refuses(spark, done):
    config, _ = done
    with pytest.raises(ParameterError, match="nonnegative cannot be combined with userBias"):
        train(spark, replace(config, als={"nonnegative": True, "userBias": True}), "refused")


def test_settings_another_estimator_refuses(spark, done):
    config, _ = done
    with pytest.raises(ConfigError, match=r"sgd: SGD has no parameter 'rnk' \(did you mean rank\?\); it has .*rank"):
        train(spark, replace(config, als={}, sgd={"rnk": 3}), "refused")
    with pytest.raises(ParameterError, match="SVDPlusPlus cannot use nonnegative"):
        train(spark, replace(config, als={}, svdplusplus={"nonnegative": True}), "refused")


@pytest.mark.parametrize("section", ESTIMATORS)
def test_every_estimator_has_a_section(section):
    estimator = estimator_of(configuration("here", **{"als": None, section: {"rank": 2}}))
    assert type(estimator) is ESTIMATORS[section]
    assert estimator.getOrDefault("validationIndicatorCol") == "validation"


def test_another_estimator_trained_evaluated_and_predicted(spark, done):
    config, (_, als, *_) = done
    settings = {"rank": 4, "maxIter": 10, "regParam": 0.02, "userBias": True, "itemBias": True, "center": True}
    config = replace(config, als={}, sgd=settings, model=replace(config.model, run_id="by-sgd"))
    trained, found, predicted = (job(spark, config, "by-sgd") for job in (train, evaluate, predict))
    assert trained.version > als.version
    assert found.ratings[""].rmse < found.ratings["bias_only"].rmse
    rows = read(spark, config, "recommendations").where("run_id = 'by-sgd'")
    assert rows.select("user").distinct().count() == 300


def test_a_model_beyond_the_drivers_limit_is_evaluated_and_predicted_alike(spark, done):
    config, (_, _, evaluated, predicted) = done
    before = read(spark, config, "recommendations").where("run_id = 'run-1'")
    spark.conf.set("spark.mfspark.driverLimit", "0")
    try:
        again = replace(config, model=replace(config.model, run_id="run-1"))
        assert evaluate(spark, again, "large").metrics() == pytest.approx(evaluated.metrics(), rel=1e-5)
        assert predict(spark, again, "large").rows == predicted.rows
    finally:
        spark.conf.unset("spark.mfspark.driverLimit")
    large = read(spark, config, "recommendations").where("run_id = 'large'").drop("run_id")
    keys = ["user", "item", "rank"]
    both = large.withColumnRenamed("prediction", "comp").join(before, ["user", "rank"])
    assert (
        both.where("abs(comp - prediction) < 1e-4").count() == predicted.rows == large.select(keys).distinct().count()
    )


def test_a_ratings_version_that_does_not_exist(spark, done):
    config, _ = done
    with pytest.raises(StoreError, match="ratings at version 99"):
        train(spark, replace(config, train=replace(config.train, ratings_version=99)), "refused")


def test_kept_rows_have_the_partitions_their_bytes_need(spark, tmp_path):
    names = ("spark.sql.adaptive.enabled", "spark.sql.shuffle.partitions")
    before = {name: spark.conf.get(name) for name in names}
    try:
        for name, value in zip(names, ("true", "50"), strict=True):
            spark.conf.set(name, value)
        with keeping() as keep:
            kept = keep(spark.range(1000).groupBy((F.col("id") % 100).alias("n")).count())
            assert kept.count() == 100
            kept.write.parquet(str(tmp_path / "kept"))
    finally:
        for name, value in before.items():
            spark.conf.set(name, value)
    assert len(list((tmp_path / "kept").glob("*.parquet"))) <= 2
    assert spark.conf.get("spark.sql.optimizer.canChangeCachedPlanOutputPartitioning", "false") == "false"


IMPLICIT = {"rank": 4, "maxIter": 3, "seed": 1, "implicitPrefs": True}


def test_users_held_out_whole_are_folded_in_and_found(spark, tmp_path):
    """Two tastes and ids as text: who is folded in from a taste finds the rest of it, better than what all like."""
    rows = [f"u{u}::i{i % 2}{i}::1" for u in range(60) for i in range(20) if u % 2 == i % 2 and (u * 7 + i) % 4]
    config = text_config(
        tmp_path, rows, als=IMPLICIT, split={"method": "strong", "fraction": 0.3}, evaluate={"k": 2, "relevant": 1}
    )
    ingest(spark, config, "r")
    train(spark, config, "r")
    users = read(spark, config, "user_factors").count()
    report = evaluate(spark, config, "r")
    own, popular = report.rankings[""], report.rankings["popular"]
    assert not report.ratings and users + own["users"] == 60 and own["users"] > 5
    assert own["recallAtK"] > popular["recallAtK"] + 0.1
    with pytest.raises(DataError, match="gate.metric: rmse cannot be measured here; take one of a ranking"):
        evaluate(spark, replace(config, gate=replace(config.gate, metric="rmse")), "r")
    with pytest.raises(DataError, match="evaluate.k is missing: users held out whole"):
        evaluate(spark, replace(config, evaluate=replace(config.evaluate, k=None)), "r")


def test_users_a_model_does_not_know_get_what_is_popular(spark, done, tmp_path):
    config, _ = done
    registry = Registry(spark, config.store.location)  # other tests publish runs of their own
    popular = registry.read(registry.get(run_id="run-1"), "popular")
    listed = popular.where("span = 'recent'").orderBy("place").collect()
    train_rows = random_split(read(spark, config, "ratings"), 0.1, 1).where("NOT validation")
    newest = train_rows.agg(F.max("timestamp")).first()[0]
    counts = train_rows.where(F.col("timestamp") > newest - 30 * 86400).groupBy("item").count()
    ref = counts.orderBy(F.desc("count"), "item").limit(100).collect()
    assert [(row["id"], row["ratings"]) for row in listed] == [tuple(row) for row in ref] and len(ref) > 3
    users = tmp_path / "users.csv"
    users.write_text("user\n1\n777777\nnobody\n")
    asked = replace(config.predict, n=3, users=str(users), unknown_users="recent")
    predict(spark, replace(config, predict=asked), "cold")
    found = read(spark, config, "recommendations").where("run_id = 'cold'").orderBy("user", "rank").collect()
    assert [row["user"] for row in found] == [1, 1, 1, 777777, 777777, 777777]
    assert [(row["item"], row["prediction"]) for row in found[3:]] == [tuple(row) for row in ref[:3]]
