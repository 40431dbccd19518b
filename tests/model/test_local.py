"""LocalModel: what it answers against formulas written out, in threads, pickled, mapped, and what its import loads."""

import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from mfspark import DataError, LocalModel, ParameterError, StoreError
from mfspark.kernels.als.half_step import solve_block
from mfspark.kernels.best import best_of
from mfspark.kernels.csr import Block, Side
from mfspark.kernels.objective import Settings, fix
from mfspark.kernels.topk import best_columns
from mfspark.model.factorization import Factorization
from mfspark.model.fold_in import exact

ROOT = Path(__file__).resolve().parent.parent.parent
USERS, ITEMS, RANK = 30, 50, 4
KINDS = {
    "explicit": {},
    "biased": {"bias": (True, True)},
    "item bias": {"bias": (False, True), "l1": (0.0, 0.0)},
    "user bias": {"bias": (True, False), "exponent": 0.0},
    **{name: {"implicit": True, "confidence": name, "alpha": 3.0} for name in ("mllib", "linear", "log", "ials")},
    "nonnegative": {"nonnegative": True},
    "elastic net": {"l1": (0.2, 0.2), "bias": (True, True)},
    "nonnegative implicit": {"implicit": True, "nonnegative": True},
}


def fitted(seed=0, texts=False, intercept=None, limits=(-np.inf, np.inf), **options):
    settings = Settings(rank=RANK, reg_param=(0.1, 0.2), **options)
    rng = np.random.default_rng(seed)
    sides = []
    for n, bias in zip((USERS, ITEMS), settings.bias, strict=True):
        side = np.zeros((n, settings.padded), np.float32)
        side[:, : RANK + bias] = rng.normal(0.2, 1, (n, RANK + bias))
        sides.append(np.abs(side) if settings.nonnegative else side)
    ids = [pa.array(range(100, 100 + 2 * n, 2)) for n in (USERS, ITEMS)]
    if texts:
        ids = [pa.array(sorted(f"id-{value}" for value in one.to_pylist())) for one in ids]
    intercept = (1.5 if any(settings.bias) else 0.0) if intercept is None else intercept
    return Factorization(settings, tuple(ids), tuple(sides), intercept, limits)


def table_of_scores(one):
    """Return all predictions (USERS x ITEMS), written out."""
    u, v = (one.features(side).astype(np.float64) for side in Side)
    b, c = (0 if one.bias(side) is None else one.bias(side).astype(np.float64) for side in Side)
    return np.clip(one.intercept + u @ v.T + np.reshape(b, (-1, 1)) + np.reshape(c, (1, -1)), *one.limits)


@pytest.mark.parametrize("texts", [False, True])
@pytest.mark.parametrize("options", [{}, {"bias": (True, True)}, {"bias": (False, True)}, {"bias": (True, False)}])
def test_predictions_and_recommendations_are_the_formula(options, texts):
    one = fitted(texts=texts, limits=(-1.0, 4.0), **options)
    model, ref = LocalModel(one), table_of_scores(one)
    users, items = (ids.to_pylist() for ids in one.ids)
    pairs = [(u, i) for u in range(USERS) for i in range(ITEMS)]
    comp = model.predict([users[u] for u, _ in pairs], [items[i] for _, i in pairs])
    np.testing.assert_allclose(comp.reshape(ref.shape), ref, rtol=1e-5, atol=1e-6)
    raw = table_of_scores(fitted(texts=texts, **options))  # clipping comes after ranking
    for u in (0, 7, USERS - 1):
        best = np.argsort(-raw[u])[:6]
        found = model.recommend(users[u], 6)
        assert [scored.id for scored in found] == [items[i] for i in best]
        np.testing.assert_allclose([scored.score for scored in found], ref[u, best], rtol=1e-5, atol=1e-6)


def test_rules_leave_out_what_they_name():
    one = fitted()
    model, order = LocalModel(one), [100 + 2 * int(i) for i in np.argsort(-table_of_scores(one)[3])]
    found = [scored.id for scored in model.recommend(106, 5, seen=order[:2], deny=[order[3], 7])]
    assert found == [order[2], *order[4:8]]
    assert [scored.id for scored in model.recommend(106, 5, allow=[*order[9:4:-1], 7, order[9]])] == order[5:10]
    found = model.recommend(106, 5, allow=order[5:10], seen=order[:6], deny=[order[8]])
    assert [scored.id for scored in found] == [*order[6:8], order[9]]
    least = model.recommend(106, 3)[2].score
    assert [scored.id for scored in model.recommend(106, 50, min_score=least)] == order[:3]
    assert len(model.recommend(106, 1000)) == ITEMS and model.recommend(106, 5, allow=[]) == []
    assert model.recommend(106, 5, min_score=np.inf) == []


def test_neighbours_are_those_of_the_cosine():
    one = fitted()
    one.sides[1][5, :] = 0  # a row without direction has the cosine 0 with all
    model, unit = LocalModel(one), one.features(Side.ITEM).astype(np.float64)
    unit /= np.where(np.linalg.norm(unit, axis=1, keepdims=True) == 0, 1, np.linalg.norm(unit, axis=1, keepdims=True))
    cosines = unit @ unit[8]
    cosines[8] = -np.inf
    order = [100 + 2 * int(i) for i in np.argsort(-cosines)]
    found = model.similar(116, 5)
    assert [scored.id for scored in found] == order[:5]
    np.testing.assert_allclose([scored.score for scored in found], np.sort(cosines)[::-1][:5], rtol=1e-5)
    found = model.similar(116, 3, allow=[116, *order[:5]], deny=order[:1])
    assert [scored.id for scored in found] == order[1:4]
    assert all(scored.score == 0 for scored in model.similar(110, 3))
    assert len(model.similar(100, 50, side=Side.USER)) == USERS - 1


@pytest.mark.parametrize("size", [1, 7, 300, 5000, 20_000])
def test_ties_are_in_the_order_of_the_places_as_on_spark(size):
    rng = np.random.default_rng(size)
    for values in (rng.integers(0, 4, size), np.zeros(size), rng.integers(0, 3 * size, size), np.arange(size)):
        scores = values.astype(np.float32)
        scores[rng.random(size) < 0.1] = -np.inf
        one = np.ones((1, 1), np.float32)
        for n in (1, 10, min(size, 400)):
            places, ref = best_columns(one, scores[:, None].copy(), min(n, size), 64)
            kept = ref[0] > -np.inf
            best = best_of(scores, n)
            np.testing.assert_array_equal(best.places, places[0][kept])
            np.testing.assert_array_equal(best.scores, ref[0][kept])
    scores[size // 2] = np.nan
    assert size // 2 not in best_of(scores, 10).places and len(best_of(scores, size).places) == np.sum(scores > -np.inf)


def ratings_of(seed, n):
    rng = np.random.default_rng(seed)
    return {100 + 2 * int(i): float(r) for i, r in zip(rng.permutation(ITEMS)[:n], rng.integers(1, 6, n), strict=True)}


@pytest.mark.parametrize("n", [1, 9, 40])
@pytest.mark.parametrize("name", KINDS)
def test_a_new_user_is_solved_as_on_the_workers(name, n):
    one = fitted(**KINDS[name])
    model, ratings = LocalModel(one), ratings_of(n, n)
    if one.settings.implicit:
        ratings[next(iter(ratings))] = -2.0 if n > 1 else 3.0
    weights = {item: 0.5 + item % 3 for item in ratings}
    places = np.array([(item - 100) // 2 for item in ratings], np.int32)
    for given in (None, weights):
        own = np.array(list(given.values()), np.float32) if given else np.empty(0, np.float32)
        block = Block(np.array([0, n]), places, np.array(list(ratings.values()), np.float32), weights=own)
        fixed = fix(one.sides[Side.ITEM], one.settings, one.intercept)
        start = np.zeros((1, one.settings.padded), np.float32)
        ref = solve_block(block, fixed, exact(one.settings), start)[0][0]
        comp = model.fold_in(ratings, given)
        constrained = one.settings.nonnegative or any(one.settings.l1)
        scale = np.abs(ref).max()
        np.testing.assert_allclose(comp, ref, rtol=0, atol=(1e-3 if constrained else 2e-5) * scale)


def test_a_new_user_is_recommended_the_rest():
    one = fitted(bias=(True, True))
    model, ratings = LocalModel(one), ratings_of(1, 12)
    row = model.fold_in(ratings)
    found = model.recommend_for(ratings, 100)
    assert {scored.id for scored in found} == set(one.ids[1].to_pylist()) - set(ratings)
    assert found[:4] == model.recommend(row, 4, seen=ratings)
    assert len(model.recommend_for(ratings, 100, seen=[])) == ITEMS
    assert model.recommend_for([100, 102], 3) == model.recommend_for({100: 1.0, 102: 1.0}, 3)
    none = model.recommend_for({}, 2)  # the minimum without ratings is 0: what everybody likes
    assert [scored.id for scored in none] == [100 + 2 * int(i) for i in np.argsort(-one.bias(Side.ITEM))[:2]]


@pytest.mark.parametrize("options", [{"loss": "logistic"}, {"folds": "svd"}, {"folds": "samples"}, {"folds": "untold"}])
def test_what_the_model_refuses_is_refused_in_its_words(options):
    one = fitted(**options)
    with pytest.raises(ParameterError) as error:
        LocalModel(one).fold_in({100: 1.0})
    assert str(error.value) == one.objective.refusal(Side.USER)


def test_wrong_questions_are_answered_in_one_line():
    numbers, texts = LocalModel(fitted()), LocalModel(fitted(texts=True))
    for ask, message in (
        (lambda: numbers.recommend(101), "^user 101 is unknown to the model$"),
        (lambda: numbers.recommend("100"), "^1 user ids, such as '100', are no whole numbers"),
        (lambda: numbers.recommend(100.5), "^1 user ids, such as 100.5, are no whole numbers"),
        (lambda: numbers.recommend(True), "^1 user ids, such as True"),
        (lambda: texts.recommend(100), "^1 user ids, such as 100, are no strings"),
        (lambda: texts.similar("nobody"), "^item 'nobody' is unknown to the model$"),
        (lambda: numbers.fold_in({100: 1.0, 101: 2.0, 103: 2.0}), "^2 items are unknown to the model"),
        (lambda: numbers.fold_in({100: np.nan}), "^ratings must be finite"),
        (lambda: numbers.fold_in({100: 1.0}, {100: -1.0}), "^ratings must be finite, weights finite and >= 0"),
    ):
        with pytest.raises(DataError, match=message):
            ask()
    for ask, message in (
        (lambda: numbers.recommend(100, 0), "must be at least 1, not 0"),
        (lambda: numbers.recommend(100, "3"), "must be an int, not '3'"),
        (lambda: texts.predict("id-100", ["id-100"]), r"^expected a list of user ids, such as \['id-100'\]"),
        (lambda: numbers.predict([100], [100, 102]), "^1 users and 2 items make no pairs"),
        (lambda: numbers.refreshed(), "^only a model loaded from a store"),
    ):
        with pytest.raises(ParameterError, match=message):
            ask()
    comp = numbers.predict([100, 101, None, 100.0, 2**62], [100, 100, 100, np.int8(102), 100])
    assert np.isfinite(comp).tolist() == [True, False, False, True, False]
    many = [f"id-{100 + 2 * (n % USERS)}" for n in range(1500)] + [None, "id-7", "zz"]
    comp = texts.predict(many, ["id-100"] * len(many))
    assert np.isfinite(comp[:1500]).all() and np.isnan(comp[1500:]).all() and len(set(comp[:1500])) == USERS
    assert texts.knows("id-100") and not texts.knows("id-101")


def test_saved_mapped_pickled_and_asked_by_many_threads(tmp_path):
    one = fitted(texts=True, bias=(True, True), limits=(0.0, np.inf))
    model = LocalModel(one)
    model.save(str(tmp_path / "model"))
    mapped = LocalModel.load(str(tmp_path / "model"))
    assert not mapped.fitted.sides[0].flags.writeable and mapped.fitted.settings == one.settings
    assert isinstance(mapped.fitted.sides[1].base, np.memmap) and repr(mapped) == repr(model)
    ratings = {f"id-{item}": rating for item, rating in ratings_of(2, 5).items()}
    ref = [model.recommend(user, 5) for user in one.ids[0].to_pylist()], model.recommend_for(ratings, 5)
    for twin in (mapped, pickle.loads(pickle.dumps(model)), pickle.loads(pickle.dumps(mapped))):
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(lambda user, twin=twin: twin.recommend(user, 5), one.ids[0].to_pylist())) == ref[0]
            assert list(pool.map(lambda _, twin=twin: twin.recommend_for(ratings, 5), range(20))) == [ref[1]] * 20
    with pytest.raises(StoreError, match="already exists"):
        model.save(str(tmp_path / "model"))
    with pytest.raises(StoreError, match="holds one model, which has no versions"):
        LocalModel.load(str(tmp_path / "model"), 3)
    with pytest.raises(StoreError, match="^no model has been published in"):
        LocalModel.load(str(tmp_path / "nothing"))


def test_it_loads_no_spark_and_no_compiler(tmp_path):
    LocalModel(fitted(bias=(True, True))).save(str(tmp_path / "model"))
    program = f"""
import sys
from mfspark import LocalModel, Serving
model = LocalModel.load({str(tmp_path / "model")!r})
print(model.recommend(100, 1), model.recommend_for({{100: 5.0}}, 1), model.similar(100, 1), model.predict([100], [100]))
unwanted = ("pyspark", "py4j", "numba", "llvmlite", "delta", "scipy", "pydantic")
assert not set(unwanted) & set(sys.modules), set(unwanted) & set(sys.modules)
"""
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("name", [name for name in KINDS if "nonneg" not in name and "net" not in name])
def test_contributions_sum_to_the_score_and_are_those_of_the_ratings(name):
    one = fitted(**KINDS[name])
    model, ratings = LocalModel(one), ratings_of(3, 9)
    weights = {item: 0.5 + item % 3 for item in ratings}
    row = model.fold_in(ratings, weights)
    every = [scored.score for scored in sorted(model.recommend(row, ITEMS))]
    for place in (0, 17):
        found = model.explain(ratings, 100 + 2 * place, weights)
        np.testing.assert_allclose(found.score, every[place], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(found.base + sum(part.score for part in found.contributions), found.score, rtol=1e-9)
        assert {part.id for part in found.contributions} == set(ratings)
        assert found.contributions == sorted(found.contributions, key=lambda part: -part.score)
        bias = one.bias(Side.ITEM)
        np.testing.assert_allclose(found.base, one.intercept + (0 if bias is None else bias[place]), rtol=1e-6)


def test_a_contribution_is_what_the_rating_pulls():
    """Of two items in the same direction, the better liked pulls up; one across the rated ones gets nothing of it."""
    settings = Settings(rank=2, reg_param=(0.5, 0.5), exponent=0.0)
    items = np.zeros((4, settings.padded), np.float32)
    items[:, :2] = [[1, 0], [1, 0], [0, 1], [2, 0]]
    users = np.zeros((1, settings.padded), np.float32)
    model = LocalModel(Factorization(settings, (pa.array([1]), pa.array(list("abcd"))), (users, items)))
    found = model.explain({"a": 4.0, "b": 2.0, "c": 5.0}, "d")
    # x_1 = (4 + 2) / (2 + 0.5), the score is 2 x_1.
    assert [part.id for part in found.contributions] == ["a", "b", "c"] and found.base == 0
    np.testing.assert_allclose([part.score for part in found.contributions], [8 / 2.5, 4 / 2.5, 0], atol=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"nonnegative": True}, "^under nonnegative or elasticNetParam a score is not a sum"),
        ({"l1": (0.1, 0.0)}, "^under nonnegative or elasticNetParam a score is not a sum"),
        ({"implicit": True, "negatives": 2}, "^with drawn negatives"),
        ({"folds": "svd"}, "^an explanation solves the user's equations again, but this model's factors"),
    ],
)
def test_scores_that_are_no_sums_are_not_explained(options, message):
    with pytest.raises(ParameterError, match=message):
        LocalModel(fitted(**options)).explain({100: 1.0}, 102)
