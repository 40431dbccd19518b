"""One contender's measurement, in a process of its own: prints its figures as one line of JSON."""

from __future__ import annotations

import json
import logging
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np

ITERATIONS, REG, ALPHA = 10, 0.1, 1.0


def seconds(action):
    """Return an action's wall time and result."""
    began = time.perf_counter()
    result = action()
    return time.perf_counter() - began, result


def session():
    """Return the Spark session every Spark contender gets."""
    from mfspark import spark_session

    spark = spark_session("mfspark-bench", "local[2]", {"spark.driver.memory": "6g"})
    spark.sparkContext.setLogLevel("ERROR")
    return spark


def ratings_path(size, folder):
    """Return the Parquet folder of that many ratings."""
    return str(Path(folder) / f"ratings-{size}")


def sizes(size):
    """Return users and items for a number of ratings: Netflix's ratings per user, at most its items."""
    return max(200, round(480_189 * size / 100_480_507)), min(17_770, max(200, size // 100))


def data(size, folder):
    """Write the ratings and 10 % held-out rows, once."""
    from mfspark.data import netflix_like, random_split

    path = ratings_path(size, folder)
    if not Path(path, "_SUCCESS").exists():
        spark = session()
        users, items = sizes(size)
        frame = netflix_like(spark, seed=1, n_users=users, n_items=items, n_ratings=size, partitions=8)
        frame = frame.selectExpr("cast(user as int) user", "cast(item as int) item", "rating")
        if size <= 10_000_000:
            random_split(frame, 0.1, 1).repartition(8).write.mode("overwrite").parquet(path + "-split")
        frame.write.mode("overwrite").parquet(path)
    return {}


def als(module, implicit, rank, iterations, **more):
    """Return an ALS of MLlib or mfspark with the bench's settings."""
    options = dict(implicitPrefs=True, alpha=ALPHA) if implicit else {}
    if hasattr(module.ALS, "initMode"):
        options["initMode"] = "mllib"
    return module.ALS(rank=rank, maxIter=iterations, regParam=REG, seed=1, **options, **more)


def mfspark(size, folder, rank, implicit, **options):
    """Whole fit from a Parquet path to factors, and the median sweep."""
    import mfspark as module

    spark = session()
    als(module, implicit, rank, 1, **options).fit(spark.read.parquet(ratings_path(min(size, 1_000_000), folder)))
    whole, model = seconds(
        lambda: als(module, implicit, rank, ITERATIONS, **options).fit(spark.read.parquet(ratings_path(size, folder)))
    )
    sweeps = [row.seconds for row in model.history.orderBy("iteration").collect()]
    loss = model.history.orderBy("iteration").collect()[-1].loss
    return dict(fit=whole, sweep=statistics.median(sweeps[2:]), build=whole - sum(sweeps), loss=loss)


def mfspark_cg(size, folder, rank, implicit):
    """As mfspark, with three conjugate gradient steps."""
    return mfspark(size, folder, rank, implicit, solver="cg")


def mfspark_jobs(size, folder, rank, implicit):
    """As mfspark, a job a half step, the sides broadcast."""
    return mfspark(size, folder, rank, implicit, loop="jobs", carrier="broadcast")


def mfspark_exchange(size, folder, rank, implicit):
    """As mfspark_jobs, the sides on the workers; and the bytes shuffled a sweep, measured and by the formula."""
    import mfspark as module
    from mfspark.training.progress import LOGGER

    spark = session()
    told = []
    LOGGER.addHandler(handler := logging.StreamHandler(SimpleNamespace(write=told.append, flush=lambda: None)))
    LOGGER.setLevel(logging.INFO)
    figures = mfspark(size, folder, rank, implicit, carrier="exchange")
    LOGGER.removeHandler(handler)
    ratings, written = spark.read.parquet(ratings_path(size, folder)), []
    for sweeps in (1, 3):
        before = shuffled(spark)
        als(module, implicit, rank, sweeps, carrier="exchange").fit(ratings)
        written.append(shuffled(spark) - before)
    said = [float(line.split("items in")[1].split()[2]) * 1e6 for line in told if "MB shuffled" in line]
    return figures | dict(bytes=(written[1] - written[0]) / 2, formula=said[-1])


def shuffled(spark):
    """Return how many bytes all stages so far have written to shuffles."""
    none = spark.sparkContext._gateway.new_array(spark._jvm.double, 0)
    stages = spark.sparkContext._jsc.sc().statusStore().stageList(None, False, False, none, None)
    return sum(stages.apply(at).shuffleWriteBytes() for at in range(stages.size()))


def mllib(size, folder, rank, implicit):
    """MLlib's ALS: whole fit, and a sweep as the difference between 10 and 2 iterations."""
    import pyspark.ml.recommendation as module

    spark = session()
    frame = spark.read.parquet(ratings_path(size, folder))
    als(module, implicit, rank, 1).fit(spark.read.parquet(ratings_path(min(size, 1_000_000), folder)))
    short, _ = seconds(lambda: als(module, implicit, rank, 2).fit(frame).userFactors.count())
    whole, model = seconds(lambda: als(module, implicit, rank, ITERATIONS).fit(frame))
    return dict(fit=whole, sweep=(whole - short) / (ITERATIONS - 2), loss=mllib_loss(frame, model, implicit))


def mllib_loss(frame, model, implicit):
    """Return the objective at MLlib's factors, by our own formula."""
    from mfspark.blocks.columns import Columns, select
    from mfspark.blocks.encode import encode
    from mfspark.blocks.profile import profile
    from tests.bench.objective import objective_of

    return objective_of(profile, encode(select(frame, Columns())), model, implicit, REG, ALPHA)


def arrays(size, folder):
    """Return users, items (from 0) and ratings as arrays."""
    import pyarrow.parquet as pq

    table = pq.read_table(ratings_path(size, folder), columns=["user", "item", "rating"])
    columns = [table.column(name).to_numpy() for name in ("user", "item", "rating")]
    return columns[0] - 1, columns[1] - 1, columns[2].astype(np.float32)


def kernel(size, folder, rank, implicit):
    """Our kernels on the same blocks as under Spark, with two threads and no Spark."""
    from mfspark.kernels.als.half_step import solve_block
    from mfspark.kernels.csr import Block, balanced_bounds, counting_order
    from mfspark.kernels.objective import Settings, fix

    users, items, r = arrays(size, folder)
    codes, table = (r - 1).astype(np.uint8), np.arange(1, 6, dtype=np.float32)
    counts = (int(users.max()) + 1, int(items.max()) + 1)
    sides = []
    for rows, others, n in ((users, items, counts[0]), (items, users, counts[1])):
        order, indptr = counting_order(rows, n)
        bounds = balanced_bounds(np.diff(indptr), 2, 150.0)
        index, values = others[order].astype(np.int32), codes[order]
        blocks = []
        for start, stop in zip(bounds[:-1], bounds[1:], strict=True):
            part = slice(indptr[start], indptr[stop])
            blocks.append(Block(indptr[start : stop + 1] - indptr[start], index[part], values[part], table))
        sides.append(blocks)
    settings = Settings(rank, implicit=implicit, alpha=ALPHA, reg_param=(REG, REG))
    rng = np.random.default_rng(1)
    factors = [np.zeros((n, settings.padded), np.float32) for n in counts]
    factors[0][:, :rank] = np.abs(rng.normal(0, rank**-0.5, (counts[0], rank)))
    spent = []
    with ThreadPoolExecutor(2) as pool:
        for _ in range(6):
            began = time.perf_counter()
            for side in (1, 0):
                seen = settings if side == 0 else settings.swapped()
                fixed = fix(factors[1 - side], seen)
                solved = pool.map(lambda b, f=fixed, s=seen: solve_block(b, f, s, None, True)[0], sides[side])
                factors[side] = np.concatenate(list(solved))
            spent.append(time.perf_counter() - began)
    return dict(sweep=statistics.median(spent[2:]))


def _implicit(size, folder, rank, use_cg):
    import scipy.sparse as sp
    from implicit.cpu.als import AlternatingLeastSquares

    began = time.perf_counter()
    users, items, r = arrays(size, folder)
    matrix = sp.csr_matrix((r, (users, items)))
    model = AlternatingLeastSquares(
        factors=rank, regularization=REG, alpha=ALPHA, iterations=ITERATIONS, use_cg=use_cg, num_threads=2,
        random_state=1,
    )  # fmt: skip
    stamps = [time.perf_counter()]
    model.fit(matrix, show_progress=False, callback=lambda *_: stamps.append(time.perf_counter()))
    whole = time.perf_counter() - began
    return dict(fit=whole, sweep=statistics.median(np.diff(stamps)[2:]), build=stamps[0] - began)


def implicit_cg(size, folder, rank, implicit):  # noqa: ARG001
    """The ``implicit`` package with its three conjugate gradient steps: Parquet by pyarrow to its csr, and its fit."""
    return _implicit(size, folder, rank, True)


def implicit_cholesky(size, folder, rank, implicit):  # noqa: ARG001
    """The ``implicit`` package with its exact solver."""
    return _implicit(size, folder, rank, False)


def _cmfrec(size, folder, rank, implicit, use_cg):
    import pandas as pd
    from cmfrec import CMF, CMF_implicit

    began = time.perf_counter()
    users, items, r = arrays(size, folder)
    frame = pd.DataFrame({"UserId": users, "ItemId": items, ("Value" if implicit else "Rating"): r})
    build = time.perf_counter() - began
    common = dict(k=rank, lambda_=REG, use_cg=use_cg, nthreads=2, random_state=1, verbose=False, use_float=True)
    spent = {}
    for iterations in (2, ITERATIONS):
        if implicit:
            model = CMF_implicit(niter=iterations, alpha=ALPHA, precompute_for_predictions=False, **common)
        else:
            model = CMF(
                niter=iterations, user_bias=False, item_bias=False, scale_lam=True, method="als",
                finalize_chol=False, precompute_for_predictions=False, **common,
            )  # fmt: skip
        spent[iterations], _ = seconds(lambda m=model: m.fit(frame))
    whole = build + spent[ITERATIONS]
    return dict(fit=whole, sweep=(spent[ITERATIONS] - spent[2]) / (ITERATIONS - 2), build=build)


def cmfrec_cg(size, folder, rank, implicit):
    """Cmfrec with conjugate gradients."""
    return _cmfrec(size, folder, rank, implicit, True)


def cmfrec_cholesky(size, folder, rank, implicit):
    """Cmfrec with its exact solver."""
    return _cmfrec(size, folder, rank, implicit, False)


def _scoring(module, size, folder, rank, **options):
    spark = session()
    frame = spark.read.parquet(ratings_path(size, folder))
    model = als(module, False, rank, 1, **options).fit(frame)
    model.userFactors.count()

    def write(result):
        result.write.format("noop").mode("overwrite").save()

    times = {"recommend": [], "transform": []}
    for _ in range(2):
        times["recommend"].append(seconds(lambda: write(model.recommendForAllUsers(10)))[0])
        times["transform"].append(seconds(lambda: write(model.transform(frame)))[0])
    return {name: min(values) for name, values in times.items()}


def mfspark_scoring(size, folder, rank):
    """recommendForAllUsers(10) without the seen pairs, and transform of all ratings."""
    import mfspark as module

    return _scoring(module, size, folder, rank, filterSeen=True)


def mllib_scoring(size, folder, rank):
    """The same of MLlib, which cannot leave out the seen pairs."""
    import pyspark.ml.recommendation as module

    return _scoring(module, size, folder, rank)


def main():
    """Run the contender that the arguments name."""
    from tests.bench import contenders, race, stochastic

    name, options = sys.argv[1], json.loads(sys.argv[2])
    contender = next(getattr(module, name) for module in (contenders, stochastic, race) if hasattr(module, name))
    sys.stdout.write(json.dumps(contender(**options)) + "\n")


if __name__ == "__main__":
    main()
