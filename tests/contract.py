"""What every fitted model must do, whatever fitted it: one class, which each estimator's tests inherit."""

import pickle
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from chispa import assert_df_equality
from pyspark.ml import Pipeline, PipelineModel
from pyspark.sql import functions as F

from mfspark import DataError, FactorizationModel, LocalModel, ParameterError, Registry, StoreError
from mfspark.kernels.csr import Side
from mfspark.kernels.responses import RESPONSES


def checkerboard(spark, n_users=24, n_items=12, id_of=int, id_type="int"):
    """Return users who like the items of their own parity (5) and not the others (1), a few pairs missing."""
    rows = [
        (id_of(u), id_of(100 + i), 5.0 if u % 2 == i % 2 else 1.0)
        for u in range(n_users)
        for i in range(n_items)
        if (u * 7 + i * 3) % 5
    ]
    return spark.createDataFrame(rows, f"user {id_type}, item {id_type}, rating float")


class Stored(NamedTuple):
    """A fit's ratings, all and trained on; the model and what was loaded; the folder and the store it lies in."""

    marked: object
    trained: object
    models: tuple
    paths: list


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
        predictions = {(row.user, row.item): row.prediction for row in model.transform(cold).collect()}
        assert np.isfinite(predictions.pop((1, 101))) and np.isnan(list(predictions.values())).all()
        assert model.copy({model.coldStartStrategy: "drop"}).transform(cold).count() == 1
        with pytest.raises(ParameterError, match="^coldStartStrategy must be one of nan, drop, mean, not 'dorp'$"):
            model.copy({model.coldStartStrategy: "dorp"}).transform(cold)

    @pytest.fixture(scope="class")
    def stored(self, ratings, spark, tmp_path_factory):
        """A settled fit without some held-out ratings, and what a folder and a store give back of it."""
        folder = tmp_path_factory.mktemp("stored")
        marked = ratings.withColumn("held_out", F.expr("user % 5 = 1 AND item < 103"))
        estimator = self.estimator().setParams(validationIndicatorCol="held_out", **self.settled)
        if not estimator._implicit():
            estimator.setParams(coldStartStrategy="mean")
        model = estimator.fit(marked)
        model.save(str(folder / "model"))
        registry = Registry(spark, str(folder / "store"))
        registry.publish("run", model)
        models = (model, FactorizationModel.load(str(folder / "model")), registry.load_model())
        paths = [str(folder / name) for name in ("model", "store")]
        return Stored(marked, marked.where("NOT held_out").drop("held_out"), models, paths)

    def test_cold_ids_are_predicted_by_means_and_biases(self, stored, ratings, spark):
        """The mean is taken of the training rows, not of those held out; saved and published models keep it."""
        estimator, model = self.estimator(), stored.models[0]
        if estimator._implicit():
            with pytest.raises(ParameterError, match="^coldStartStrategy cannot be 'mean' with implicitPrefs"):
                estimator.copy({estimator.coldStartStrategy: "mean"}).fit(ratings)
            return
        pairs = [(1, 101), (999, 101), (1, None), (1, 999), (None, 7)]
        cold = spark.createDataFrame(pairs, "user int, item int")
        mean = stored.trained.agg(F.avg("rating")).first()[0]
        ref, known = [model.copy({model.coldStartStrategy: "nan"}).transform(cold).first().prediction], (1, 101)
        biases = [model.fitted.bias(side) for side in Side]
        for user, item in pairs[1:]:
            here = [place == one for place, one in zip((user, item), known, strict=True)]
            if model.fitted.intercept and any(model.fitted.settings.bias) and any(here):
                score = model.fitted.intercept
                for side in Side:
                    if here[side] and biases[side] is not None:
                        score += biases[side][model.ids(side).to_pylist().index(known[side])]
                ref.append(np.clip(RESPONSES[model.fitted.loss](np.float64(score)), *model.fitted.limits))
            else:
                ref.append(mean)
        for one in stored.models:
            comp = [row.prediction for row in one.transform(cold).collect()]
            np.testing.assert_allclose(comp, ref, rtol=1e-6)
        for path in stored.paths:
            local = LocalModel.load(path)
            comp = local.predict([1, 999, 1, 1, 998], [101, 101, 998, 999, 7], cold_start="mean")
            np.testing.assert_allclose(comp, ref, rtol=1e-6)
        assert np.isnan(local.predict([1], [7])).all()

    def test_unknown_users_are_offered_what_is_popular(self, model, ratings, spark):
        counted = {row.item: row["count"] for row in ratings.groupBy("item").count().collect()}
        ref = sorted(counted, key=lambda item: (-counted[item], item))
        assert [tuple(row) for row in model.popularItems(5).collect()] == [(item, counted[item]) for item in ref[:5]]
        users = spark.createDataFrame([(1,), (999,), (998,), (999,), (None,)], "user int")
        seen = spark.createDataFrame([(999, ref[0]), (1, 101)], "user int, item int")
        found = model.recommendForUserSubset(users, 3, seen=seen, deny=[ref[2]], unknown="popular")
        lists = {row.user: [tuple(one) for one in row.recommendations] for row in found.collect()}
        known = model.recommendForUserSubset(users, 3, seen=seen, deny=[ref[2]]).collect()
        assert found.columns == ["user", "recommendations"] and len(known) == 1
        assert lists[1] == [tuple(one) for one in known[0].recommendations] and set(lists) == {1, 998, 999}
        for user, own in ((998, [ref[0], ref[1], ref[3]]), (999, [ref[1], ref[3], ref[4]])):
            assert lists[user] == [(item, counted[item]) for item in own]
        only = model.recommendForUserSubset(users, 3, allow=[ref[4], 7], unknown="popular").where("user = 998").first()
        assert [one.item for one in only.recommendations] == [ref[4]]
        for options, message in (
            ({"unknown": "recent"}, "^the model has no popular items of the span 'recent'"),
            ({"unknown": "all"}, "^unknown must be one of skip, popular, recent, not 'all'$"),
            ({"unknown": "popular", "minScore": 1.0}, "^minScore cannot go with unknown='popular'"),
        ):
            with pytest.raises(ParameterError, match=message):
                model.recommendForUserSubset(users, 3, **options)

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
        assert loaded.popularItems(12).collect() == model.popularItems(12).collect()
        estimator = self.estimator()
        estimator.save(str(tmp_path / "estimator"))
        with pytest.raises(StoreError, match="already exists"):
            estimator.save(path)
        again = type(estimator).load(str(tmp_path / "estimator"))
        assert {p.name: v for p, v in again.extractParamMap().items()} == {
            p.name: v for p, v in estimator.extractParamMap().items()
        }

    def test_folding_training_users_in_gives_their_factors_or_is_refused_alike(self, stored):
        model, ratings = stored.models[0], stored.trained
        results = []
        for one in stored.models:
            assert type(one) is type(model) and one.fitted.objective == model.fitted.objective
            assert one.popularItems(1).collect() == model.popularItems(1).collect()
            assert_df_equality(one.transform(stored.marked), model.transform(stored.marked), ignore_row_order=True)
            try:
                folded = one.foldInUsers(ratings).toPandas().sort_values("id")
                results.append(np.column_stack([np.stack(folded["features"].to_numpy()), folded["bias"].fillna(0)]))
            except ParameterError as error:
                results.append(str(error))
        self.check_local(model, ratings, stored.paths, results[0])
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

    def test_a_model_without_spark_knows_what_is_popular(self, stored, tmp_path):
        model = stored.models[0]
        ref = [tuple(row) for row in model.popularItems(6).collect()]
        for path in stored.paths:
            local = LocalModel.load(path)
            local.save(str(tmp_path / Path(path).name))
            for one in (local, LocalModel.load(str(tmp_path / Path(path).name)), pickle.loads(pickle.dumps(local))):
                assert one.popular(6) == ref
                assert one.popular(3, seen=[ref[0][0], 998], deny=[ref[2][0]]) == [ref[1], *ref[3:5]]
                assert one.popular(3, allow=[ref[4][0], 998]) == ref[4:5]
                with pytest.raises(ParameterError, match="^the model has no popular items of the span 'recent'"):
                    one.popular(span="recent")
        with pytest.raises(ParameterError, match="^the model has no popular items of the span 'all'"):
            LocalModel(model.fitted).popular()

    def check_local(self, model, ratings, paths, folded):
        """What LocalModel answers, read from the folder and from the store, is what the model answers on Spark."""
        pairs = ratings.select("user", "item").toPandas()
        predicted = model.transform(ratings).toPandas()["prediction"]
        best = {row.user: row.recommendations for row in model.recommendForUserSubset(ratings, 12).collect()}
        rated = {}
        for row in ratings.collect():
            rated.setdefault(row.user, {})[row.item] = row.rating
        for local in map(LocalModel.load, paths):
            assert local.fitted.objective == model.fitted.objective and local.version in (None, 1)
            np.testing.assert_allclose(local.predict(pairs["user"], pairs["item"]), predicted, rtol=1e-6, atol=1e-6)
            for user, ref in best.items():
                scores = [row.rating for row in ref]
                comp = local.recommend(user, 12)
                np.testing.assert_allclose([one.score for one in comp], scores, rtol=1e-5, atol=1e-6)
                if np.diff(scores).max() < -1e-4:
                    assert [one.id for one in comp] == [row.item for row in ref]
            if isinstance(folded, str):
                with pytest.raises(ParameterError) as error:
                    local.fold_in(rated[0])
                assert str(error.value) == folded
                continue
            # As scores, too: float32 on the workers does not settle directions in which the items hardly differ.
            seen_by = np.column_stack([model.fitted.features(Side.ITEM), np.ones(12)]).T
            rows = np.stack([local.fold_in(rated[user])[: len(seen_by)] for user in range(24)])
            off = np.linalg.norm((rows - folded) @ seen_by)
            assert off <= self.local_error * np.linalg.norm(folded @ seen_by)

    def test_recommendations_obey_several_rules_at_once(self, model, ratings, spark, caplog):
        local, users = LocalModel(model.fitted), spark.createDataFrame([(1,), (2,), (999,)], "user int")
        rated = {1: [], 2: []}
        for row in ratings.where("user in (1, 2)").collect():
            rated[row.user].append(row.item)
        allow, deny = range(102, 120), [104, 105, 7]
        every = local.recommend(1, 12, deny=[*deny, *rated[1]])
        least = every[-2].score - 1e-4
        found = model.recommendForUserSubset(users, 12, seen=[ratings, ratings], deny=deny, minScore=least).collect()
        assert "1 of 3 ids in column 'user' are unknown to the model" in caplog.text and len(found) == 2
        pairs = spark.createDataFrame([(u, i) for u in (1, 2, 5) for i in allow], "user int, item int")
        denied = spark.createDataFrame([(1, 106), (2, 107)], "user int, item int")
        by_pairs = model.recommendForAllUsers(5, allow=pairs, deny=denied).collect()
        assert {row.user for row in by_pairs} == {1, 2, 5}
        one_each = {1: [106], 2: [107], 5: []}
        near = model.similarItems([100, 101], 3, allow=range(100, 108), deny=[102], minScore=-0.5).collect()
        for comp, ref in (
            *((row, local.recommend(row.user, 12, seen=rated[row.user], deny=deny, min_score=least)) for row in found),
            *((row, local.recommend(row.user, 5, allow=allow, deny=one_each[row.user])) for row in by_pairs),
            *((row, local.similar(row.item, 3, allow=range(100, 108), deny=[102], min_score=-0.5)) for row in near),
        ):
            scores = [tuple(one)[1] for one in comp.recommendations]
            np.testing.assert_allclose(scores, [one.score for one in ref], rtol=1e-5, atol=1e-6)
            if len(scores) < 2 or np.diff(scores).max() < -1e-4:
                assert [one.item for one in comp.recommendations] == [one.id for one in ref]

    def test_explanations_sum_to_the_folded_score_or_are_refused(self, model, ratings, spark):
        pairs = spark.createDataFrame([(0, 101), (0, 102), (3, 111), (3, 999), (77, 102)], "user int, item int")
        rated = ratings.where("user in (0, 3)")
        local = LocalModel(model.fitted)
        mine = {row.item: row.rating for row in rated.where("user = 3").collect()}
        refusal = model.fitted.objective.unexplained()
        if refusal is not None:
            for ask in (lambda: model.explain(pairs, rated), lambda: local.explain(mine, 111)):
                with pytest.raises(ParameterError) as error:
                    ask()
                assert str(error.value) == refusal
            return
        found = {(row.user, row.item): row for row in model.explain(pairs, rated).collect()}
        assert len(found) == 5
        assert found[3, 999].score is None and found[3, 999].contributions is None
        assert found[77, 102].contributions == [] and found[77, 102].score == found[77, 102].base
        ref = local.explain(mine, 111)
        comp = found[3, 111]
        np.testing.assert_allclose([comp.score, comp.base], ref[:2], rtol=1e-5, atol=1e-6)
        assert [part.item for part in comp.contributions] == [part.id for part in ref.contributions]
        for user, item in ((0, 101), (0, 102), (3, 111)):
            row = found[user, item]
            parts = [part.contribution for part in row.contributions]
            assert parts == sorted(parts, reverse=True) and len(parts) == rated.where(f"user = {user}").count()
            np.testing.assert_allclose(row.base + sum(parts), row.score, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(comp.score, local.recommend(local.fold_in(mine), allow=[111])[0].score, atol=1e-4)

    local_error = 1e-5

    def test_new_users_get_their_best_unrated_items_or_are_refused(self, model, ratings):
        rated = ratings.where("user in (0, 3)").withColumn("user", F.col("user") + 1000)
        refusal = model.fitted.objective.refusal(Side.USER)
        if refusal is not None:
            with pytest.raises(ParameterError) as error:
                model.recommendForNewUsers(rated, 3)
            assert str(error.value) == refusal
            return
        local, mine = LocalModel(model.fitted), {}
        for row in rated.collect():
            mine.setdefault(row.user, {})[row.item] = row.rating
        found = model.recommendForNewUsers(rated, 2).collect()
        assert sorted(row.user for row in found) == [1000, 1003]
        for row in found:
            ref = local.recommend_for(mine[row.user], 2)
            comp = {one.item: one.rating for one in row.recommendations}
            assert not set(comp) & set(mine[row.user]) and len(comp) == len(ref)
            np.testing.assert_allclose(list(comp.values()), [one.score for one in ref], rtol=1e-3, atol=1e-3)

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

    @pytest.fixture(scope="class")
    def fitted(self, ratings):
        """The same fit once more, as the stage of a pipeline."""
        return Pipeline(stages=[self.estimator()]).fit(ratings)

    def test_pipeline(self, fitted, ratings, tmp_path):
        fitted.save(str(tmp_path / "pipeline"))
        loaded = PipelineModel.load(str(tmp_path / "pipeline"))
        assert_df_equality(loaded.transform(ratings), fitted.transform(ratings), ignore_row_order=True)

    def test_the_same_seed_gives_the_same_model(self, model, fitted):
        for left, right in zip(model.fitted.sides, fitted.stages[0].fitted.sides, strict=True):
            np.testing.assert_array_equal(left, right)

    def test_string_ids_come_back(self, spark):
        ratings = checkerboard(spark, id_of=lambda x: f"id-{x:05d}", id_type="string")
        model = self.estimator().fit(ratings)
        assert model.transform(ratings).where(F.isnan("prediction")).count() == 0
        assert model.recommendForAllUsers(1).first().user.startswith("id-")

    def test_params_can_be_explained(self):
        text = self.estimator().explainParams()
        assert "userCol" in text and "regParam" in text
