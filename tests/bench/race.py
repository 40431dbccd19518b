"""Held-out RMSE against the wall time of a fit that starts at a Parquet path: ALS, SGD, and MLlib's ALS."""

from __future__ import annotations

import itertools
import math

from tests.bench.contenders import ratings_path, seconds, session
from tests.bench.stochastic import START

REG = 0.05
MLLIB_ITERATIONS = (1, 3, 8)


def _split(spark, size, folder):
    return spark.read.parquet(ratings_path(size, folder) + "-split")


def _points(estimator, size, folder):
    """Return (seconds since fit was called, held-out RMSE) after every iteration."""
    spark = session()
    estimator.copy({estimator.maxIter: 1}).fit(_split(spark, min(size, 1_000_000), folder))
    whole, model = seconds(lambda: estimator.fit(_split(spark, size, folder)))
    history = model.history.orderBy("iteration").collect()
    before = whole - sum(row.seconds for row in history)
    spent = itertools.accumulate(row.seconds for row in history)
    return dict(points=[[before + at, row.validationRMSE] for at, row in zip(spent, history, strict=True)])


def race_als(size, folder, rank, initMode="mllib", **more):
    """Ours, at MLlib's settings."""
    from mfspark import ALS

    more |= dict(initMode=initMode, validationIndicatorCol="validation")
    als = ALS(rank=rank, maxIter=10, regParam=REG, seed=1, **more)
    return _points(als, size, folder)


def race_als_biased(size, folder, rank):
    """Ours, with biases and the mean."""
    return race_als(size, folder, rank, "normal", userBias=True, itemBias=True, center=True)


def race_sgd(size, folder, rank):
    """Ours, stratified SGD with AdaGrad steps."""
    from mfspark import SGD

    sgd = SGD(rank=rank, maxIter=20, regParam=REG, initStd=START, seed=1, validationIndicatorCol="validation")
    return _points(sgd, size, folder)


def race_mllib(size, folder, rank):
    """MLlib's: it has no validation, so that each point is a fit of its own, timed without its evaluation."""
    from pyspark.ml.recommendation import ALS
    from pyspark.sql import functions as F

    spark = session()
    ALS(rank=rank, maxIter=1).fit(_split(spark, min(size, 1_000_000), folder).where("not validation"))
    frame, points = _split(spark, size, folder), []
    for iterations in MLLIB_ITERATIONS:
        als = ALS(rank=rank, maxIter=iterations, regParam=REG, seed=1, coldStartStrategy="drop")
        spent, model = seconds(lambda a=als: a.fit(frame.where("not validation")))
        scored = model.transform(frame.where("validation"))
        points.append([spent, math.sqrt(scored.select(F.avg(F.pow(F.expr("prediction - rating"), 2))).head()[0])])
    return dict(points=points)
