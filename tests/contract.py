"""What every fitted model must do, whatever fitted it: one class, which each estimator's tests inherit."""

import pickle

import numpy as np
import pytest
from chispa import assert_df_equality
from pyspark.ml import Pipeline, PipelineModel
from pyspark.sql import functions as F

from mfspark import DataError, FactorizationModel, ParameterError, StoreError, load_model
from mfspark.kernels.csr import Side
from mfspark.store import Registry


def checkerboard(spark, n_users=24, n_items=12, id_of=int, id_type="int"):
    """Return users who like the items of their own parity (5) and not the others (1), a few pairs missing."""
    rows = [
        (id_of(u), id_of(100 + i), 5.0 if u % 2 == i % 2 else 1.0)
        for u in range(n_users)
        for i in range(n_items)
        if (u * 7 + i * 3) % 5
    ]
    return spark.createDataFrame(rows, f"user {id_type}, item {id_type}, rating float")


class ModelContract:
    """Subclasses give ``estimator()``, which must learn the checkerboard."""

    estimator = None

    @pytest.fixture(scope="class")
    def ratings(self, spark):
        return checkerboard(spark)

    @pytest.fixture(scope="class")
    def model(self, ratings):
        return self.estimator().fit(ratings)

    # Where users do not end at the minimum of their objective: more iterations, and how near their scores come.
    settled = {}
    fold_error = 1e-3

    def test_history_has_a_row_per_iteration_and_the_loss_falls(self, model):
        rows = model.history.orderBy("iteration").collect()
        assert [row.iteration for row in rows] == list(range(1, len(rows) + 1))
        assert rows[-1].loss < rows[0].loss
        assert all(np.isclose(row.loss, row.fit + row.regularisation) for row in rows)

    def test_factors_have_the_ids_types_and_rank(self, model, ratings):
        for factors, column in ((model.userFactors, "user"), (model.itemFactors, "item")):
            assert factors.columns == ["id", "features"]
            assert factors.schema["id"].dataType == ratings.schema[column].dataType
            assert factors.schema["features"].dataType.simpleString() == "array<float>"
            found = factors.collect()
            assert {row.id for row in found} == {row[0] for row in ratings.select(column).distinct().collect()}
            assert {len(row.features) for row in found} == {model.rank}

    def test_missing_pairs_are_predicted_by_parity(self, model, ratings, spark):
        pairs = spark.createDataFrame([(u, 100 + i) for u in range(24) for i in range(12)], "user int, item int")
        unseen = model.transform(pairs.join(ratings, ["user", "item"], "left_anti")).collect()
        assert len(unseen) > 20
        like = [row.prediction for row in unseen if row.user % 2 == row.item % 2]
        dislike = [row.prediction for row in unseen if row.user % 2 != row.item % 2]
        assert min(like) > max(dislike)

    def test_recommendations_are_the_best_of_all_pairs(self, model, spark):
        pairs = spark.createDataFrame([(u, 100 + i) for u in range(24) for i in range(12)], "user int, item int")
        scores = {}
        for row in model.transform(pairs).collect():
            scores.setdefault(row.user, []).append((row.prediction, row.item))
        for row in model.recommendForAllUsers(3).collect():
            ref = sorted(scores[row.user], reverse=True)[:3]
            comp = [r.rating for r in row.recommendations]
            np.testing.assert_allclose(comp, [score for score, _ in ref], rtol=1e-5, atol=1e-6)
        assert model.recommendForAllItems(2).count() == 12

    def test_subsets_seen_pairs_and_odd_numbers(self, model, ratings):
        subset = model.recommendForUserSubset(ratings.where("user in (1, 2)"), 50)
        assert {row.user for row in subset.collect()} == {1, 2}
        assert all(len(row.recommendations) == 12 for row in subset.collect())
        seen = {(row.user, row.item) for row in ratings.collect()}
        rest = model.recommendForAllUsers(12, seen=ratings).collect()
        assert len(rest) == 24
        for row in rest:
            found = {r.item for r in row.recommendations}
            assert not {(row.user, item) for item in found} & seen
            assert len(found) == 12 - sum(user == row.user for user, _ in seen)
        with pytest.raises(ParameterError, match="at least 1"):
            model.recommendForAllUsers(0)

    def test_cold_ids(self, model, spark):
        cold = spark.createDataFrame([(1, 101), (999, 101), (1, None)], "user int, item int")
        predictions = [row.prediction for row in model.transform(cold).collect()]
        assert np.isfinite(predictions[0]) and np.isnan(predictions[1:]).all()
        assert model.copy({model.coldStartStrategy: "drop"}).transform(cold).count() == 1
        with pytest.raises(ParameterError, match="^coldStartStrategy must be one of nan, drop, not 'dorp'$"):
            model.copy({model.coldStartStrategy: "dorp"}).transform(cold)

    def test_similar_items_share_the_parity(self, model):
        for row in model.similarItems([100, 101], 3).collect():
            assert [r.item % 2 for r in row.recommendations] == [row.item % 2] * 3
            assert row.item not in [r.item for r in row.recommendations]
        with pytest.raises(DataError, match="1 ids are unknown"):
            model.similarItems([7], 3)

    def test_save_load_overwrite_and_pipeline(self, model, ratings, tmp_path):
        path = str(tmp_path / "model")
        model.save(path)
        with pytest.raises(StoreError, match="already exists"):
            model.save(path)
        model.write().overwrite().save(path)
        loaded = FactorizationModel.load(path)
        assert loaded.uid == model.uid and loaded.rank == model.rank
        assert_df_equality(loaded.transform(ratings), model.transform(ratings), ignore_row_order=True)
        assert_df_equality(loaded.history, model.history, ignore_row_order=True)
        estimator = self.estimator()
        estimator.save(str(tmp_path / "estimator"))
        with pytest.raises(StoreError, match="already exists"):
            estimator.save(path)
        again = type(estimator).load(str(tmp_path / "estimator"))
        assert {p.name: v for p, v in again.extractParamMap().items()} == {
            p.name: v for p, v in estimator.extractParamMap().items()
        }

    def test_folding_training_users_in_gives_their_factors_or_is_refused_alike(self, model, ratings, tmp_path, spark):
        model = self.estimator().setParams(**self.settled).fit(ratings) if self.settled else model
        model.save(str(tmp_path / "model"))
        registry = Registry(spark, str(tmp_path / "store"))
        registry.publish("run", model)
        results = []
        for one in (model, FactorizationModel.load(str(tmp_path / "model")), load_model(registry)):
            assert type(one) is type(model) and one.fitted.objective == model.fitted.objective
            assert_df_equality(one.transform(ratings), model.transform(ratings), ignore_row_order=True)
            try:
                folded = one.foldInUsers(ratings).toPandas().sort_values("id")
                results.append(np.column_stack([np.stack(folded["features"].to_numpy()), folded["bias"].fillna(0)]))
            except ParameterError as error:
                results.append(str(error))
        if isinstance(results[0], str):
            assert results == [results[0]] * 3 and "fold" in results[0]
            return
        bias = model.fitted.bias(Side.USER)
        ref = np.column_stack([model.fitted.features(Side.USER), np.zeros(24) if bias is None else bias])
        # As scores: a descent takes long to settle directions of the factors that hardly change the objective.
        seen_by = np.column_stack([model.fitted.features(Side.ITEM), np.ones(12)]).T
        for comp in results:
            np.testing.assert_allclose(comp, results[0], rtol=1e-5, atol=1e-6)
            assert np.linalg.norm((comp - ref) @ seen_by) <= self.fold_error * np.linalg.norm(ref @ seen_by)

    def test_pickles_after_it_was_looked_at(self, model, ratings):
        assert model.userFactors.columns == ["id", "features"] and model.transform(ratings).columns
        twin = pickle.loads(pickle.dumps(model))
        assert type(twin) is type(model) and repr(twin) == repr(model) and "\n" not in repr(model)
        for left, right in zip(model.fitted.sides, twin.fitted.sides, strict=True):
            np.testing.assert_array_equal(left, right)
        assert twin.extractParamMap() == model.extractParamMap()

    def test_what_it_cannot_answer_is_refused_in_one_line(self, model, ratings, spark):
        with pytest.raises(DataError, match="^column 'rating' already exists"):
            model.copy({model.predictionCol: "rating"}).transform(ratings)
        strings = spark.createDataFrame([("1", "101")], "user string, item string")
        for ask in (model.transform, lambda pairs: model.recommendForAllUsers(1, seen=pairs)):
            with pytest.raises(DataError, match="^column 'user' is string, but the model's ids are int: cast it$"):
                ask(strings)

    def test_pipeline(self, ratings, tmp_path):
        fitted = Pipeline(stages=[self.estimator()]).fit(ratings)
        fitted.save(str(tmp_path / "pipeline"))
        loaded = PipelineModel.load(str(tmp_path / "pipeline"))
        assert_df_equality(loaded.transform(ratings), fitted.transform(ratings), ignore_row_order=True)

    def test_the_same_seed_gives_the_same_model(self, ratings):
        one, two = (self.estimator().fit(ratings).fitted.sides for _ in range(2))
        for left, right in zip(one, two, strict=True):
            np.testing.assert_array_equal(left, right)

    def test_string_ids_come_back(self, spark):
        ratings = checkerboard(spark, id_of=lambda x: f"id-{x:05d}", id_type="string")
        model = self.estimator().fit(ratings)
        assert model.transform(ratings).where(F.isnan("prediction")).count() == 0
        assert model.recommendForAllUsers(1).first().user.startswith("id-")

    def test_params_can_be_explained(self):
        text = self.estimator().explainParams()
        assert "userCol" in text and "regParam" in text
