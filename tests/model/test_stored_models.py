"""What is stored with a model: its objective, its class, its parameters; and what older stores hold."""

import json
from dataclasses import fields

import numpy as np
import pyarrow as pa
import pytest
from chispa import assert_df_equality
from contract import checkerboard
from pyspark.sql import types as T

from mfspark import ALS, BPMF, BPMFModel, DataError, FactorizationModel, ParameterError, StoreError, load_model
from mfspark.kernels.csr import Side
from mfspark.kernels.objective import REFUSALS, Objective, Settings
from mfspark.model.factorization import Factorization
from mfspark.model.tables import parameters, settings_from
from mfspark.store import Registry

KINDS = (T.LongType(), T.LongType())
OTHERS = {
    "loss": "poisson", "implicit": True, "confidence": "log", "alpha": 3.0, "w0": 0.5, "negatives": 4,
    "reg_param": (1.0, 2.0), "l1": (0.5, 0.0), "bias": (True, False), "exponent": 0.0, "nonnegative": True,
    "center": "learned", "folds": "svd",
}  # fmt: skip


def stored(settings):
    factorization = Factorization(settings, (pa.array([1]), pa.array([2])), (np.zeros((1, 16)),) * 2, 2.5)
    return json.loads(json.dumps(parameters(factorization, KINDS)))


def test_every_part_of_an_objective_survives_json():
    assert set(OTHERS) == {part.name for part in fields(Objective)}
    settings = Settings(5, solver="cg", steps=7, size=9, dtype="float64", **OTHERS)
    kept = stored(settings)
    assert settings_from(kept) == settings
    assert set(kept["objective"]) == set(OTHERS) and not set(kept["settings"]) & set(OTHERS)


@pytest.mark.parametrize("folds,rule", [(True, "rows"), (False, "svd")])
def test_what_was_stored_before_there_was_an_objective_is_read_with_its_defaults(folds, rule):
    plain = Settings(5, implicit=True, alpha=40.0, reg_param=(1.0, 2.0), bias=(False, True))
    now = stored(plain)
    newer = ("loss", "negatives", "center", "folds")
    older = {key: value for key, value in now["objective"].items() if key not in newer} | now["settings"]
    before = {"settings": older, "loss": "squared", "folds": folds, "intercept": 2.5, "limits": [None, None]}
    assert settings_from(before) == Settings(
        5, implicit=True, alpha=40.0, reg_param=(1.0, 2.0), bias=(False, True), folds=rule
    )
    assert settings_from(before | {"loss": "logistic"}).loss == "logistic"
    assert settings_from({"settings": {"rank": 3}}) == Settings(3)


@pytest.mark.parametrize("rule", REFUSALS)
@pytest.mark.parametrize("side", Side)
def test_a_rule_that_refuses_says_what_to_do(rule, side):
    assert "fold" in Objective(folds=rule).refusal(side)


def test_only_the_squared_loss_and_known_draws_fold_in():
    assert Objective().refusal(Side.USER) is Objective(implicit=True).refusal(Side.ITEM) is None
    assert Objective(implicit=True, negatives=4).refusal(Side.USER) is None
    assert "items cannot be folded" in Objective(implicit=True, negatives=4).refusal(Side.ITEM)
    assert "'poisson'" in Objective(loss="poisson").refusal(Side.USER)


@pytest.fixture(scope="module")
def ratings(spark):
    return checkerboard(spark)


@pytest.fixture(scope="module")
def sampled(ratings):
    bpmf = BPMF(rank=2, maxIter=6, burnIn=2, numSamples=3, ratingPrecision=9.0, deviationCol="sd", filterSeen=True)
    return bpmf.fit(ratings)


@pytest.fixture(scope="module")
def registry(spark, sampled, ratings, tmp_path_factory):
    registry = Registry(spark, str(tmp_path_factory.mktemp("store")))
    registry.publish("first", ALS(rank=2, maxIter=2, predictionCol="guess").fit(ratings), {"rmse": 0.5}, {"rows": 7})
    registry.publish("second", sampled)
    return registry


def test_a_published_model_comes_back_in_its_class_with_its_parameters(registry, sampled, ratings):
    latest = load_model(registry)
    assert type(latest) is BPMFModel
    assert (latest.getNumSamples(), latest.getRatingPrecision(), latest.getDeviationCol()) == (3, 9.0, "sd")
    assert_df_equality(latest.transform(ratings), sampled.transform(ratings), ignore_row_order=True)
    with pytest.raises(ParameterError, match="BPMF cannot fold in"):
        latest.foldInUsers(ratings)
    for version in (1, registry.get(1)):
        first = load_model(registry, version)
        assert type(first) is FactorizationModel and "guess" in first.transform(ratings).columns
    assert registry.get(1).parameters["training"] == {"rows": 7} and registry.get(1).metrics == {"rmse": 0.5}
    assert set(registry.get(2).parameters) == {"model"}
    with pytest.raises(StoreError, match="no model of version 9"):
        load_model(registry, 9)


def test_models_published_as_tables_still_load(registry, sampled, ratings):
    """As the README (parameters under a name), and as the notebook (without one), before classes were stored."""
    plain = {key: value for key, value in sampled.parameters().items() if key not in ("class", "params")}
    for run, given in (("named", {"model": plain}), ("bare", plain)):
        version = registry.publish_tables(run, sampled.tables(), given)
        loaded = load_model(registry, version)
        assert type(loaded) is FactorizationModel
        assert loaded.transform(ratings).count() == ratings.count()


def test_a_saved_model_is_loaded_in_its_class_by_any_class_above_it(sampled, ratings, tmp_path):
    sampled.save(str(tmp_path / "sampled"))
    for kind in (FactorizationModel, BPMFModel):
        assert type(kind.load(str(tmp_path / "sampled"))) is BPMFModel
    ALS(rank=2, maxIter=1).fit(ratings).save(str(tmp_path / "plain"))
    with pytest.raises(StoreError, match="stored FactorizationModel, not a BPMFModel"):
        BPMFModel.load(str(tmp_path / "plain"))


def test_a_sampled_model_that_leaves_out_seen_pairs_keeps_their_blocks(sampled, ratings):
    assert sampled._seen_blocks is not None
    pairs = {(row.user, row.item) for row in ratings.collect()}
    for row in sampled.recommendForAllUsers(12).collect():
        assert not {(row.user, found.item) for found in row.recommendations} & pairs
    sampled.unpersist()
    assert sampled._seen_blocks is None


def test_ratings_are_in_the_columns_of_the_fit_unless_others_are_named(spark, ratings, tmp_path):
    """Fitted, saved and published models fold in by the fit's ratings and weights, from columns that the fit named."""
    named = ratings.selectExpr("user", "item", "rating AS stars", "cast(1 + user % 3 + item % 2 AS double) AS w")
    model = ALS(rank=2, maxIter=20, ratingCol="stars", weightCol="w", seed=1).fit(named)
    model.save(str(tmp_path / "model"))
    store = Registry(spark, str(tmp_path / "store"))
    store.publish("run", model)
    ref = {row.id: np.array(row.features) for row in model.userFactors.collect()}
    for one in (model, FactorizationModel.load(str(tmp_path / "model")), load_model(store)):
        assert (one.getRatingCol(), one.getWeightCol()) == ("stars", "w")
        folded = {row.id: row.features for row in one.foldInUsers(named).collect()}
        assert max(np.abs(folded[user] - ref[user]).max() for user in ref) < 1e-5
        assert one.recommendForNewUsers(named.where("user = 1"), 2).count() == 1
    plain = model.withUsers(ratings, ratingCol="rating", weightCol="").fitted.features(Side.USER)
    assert np.abs(plain - model.fitted.features(Side.USER)).max() > 1e-4
    assert model.explain(named.limit(1), named).first()["score"] == pytest.approx(
        model.transform(named.limit(1)).first()["prediction"], rel=1e-4
    )
    for missing in ("stars", "w"):
        with pytest.raises(DataError, match=f"^the data has no column '{missing}'"):
            model.foldInUsers(named.drop(missing))
