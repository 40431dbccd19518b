"""Every ranking metric equals RecTools' on ml-100k, to 1e-6.

Below Python 3.13 RecTools' own requirements exclude numpy 2, with which its metrics run as they are: it is installed by
``pip install --no-deps -c conf/constraints.txt rectools typeguard``, which ``make setup`` does.
"""

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import functions as F

from mfspark.evaluation import bias_ranking, popularity_ranking, ranking_metrics

rectools = pytest.importorskip("rectools.metrics", reason="RecTools is not installed: see the module's docstring")
K = 10


@pytest.fixture(scope="module")
def parts(shared_data):
    """The first published fold: what is trained on, and the relevant pairs of those held out."""
    names = ["user", "item", "rating", "timestamp"]
    read = [pd.read_csv(shared_data / f"ml-100k/u1.{part}.gz", sep="\t", names=names) for part in ("base", "test")]
    return read[0], read[1][read[1].rating >= 4]


@pytest.fixture(scope="module")
def frames(spark, parts):
    return [spark.createDataFrame(part[["user", "item", "rating"]]).cache() for part in parts]


@pytest.fixture(scope="module")
def lists(frames):
    """A list of every user with something to find: of unseen items, in the popular order or in that of the biases."""
    train, relevant = frames
    return {
        "popular": popularity_ranking(train, relevant, K, seen=train).cache(),
        "bias": bias_ranking(train, relevant, 30).cache(),
    }


def table(recommended):
    """Lists as RecTools takes them."""
    rows = recommended.select(F.col("user").alias("user_id"), F.posexplode("recommendations").alias("place", "one"))
    frame = rows.select("user_id", F.col("one.item").alias("item_id"), (F.col("place") + 1).alias("rank"))
    return frame.toPandas()


@pytest.mark.parametrize("name", ["popular", "bias"])
def test_metrics_equal_rectools(lists, frames, parts, name):
    train, relevant = (part.rename(columns={"user": "user_id", "item": "item_id"}) for part in parts)
    catalog = train.item_id.unique()
    comp = ranking_metrics(lists[name], frames[1], K, len(catalog), train=frames[0])
    theirs = {
        "precisionAtK": rectools.Precision(K),
        "truncatedRecallAtK": rectools.Precision(K, r_precision=True),
        "recallAtK": rectools.Recall(K),
        "hitRateAtK": rectools.HitRate(K),
        "ndcgAtK": rectools.NDCG(K, divide_by_achievable=True),
        "meanReciprocalRank": rectools.MRR(K),
        "coverageAtK": rectools.CatalogCoverage(K, normalize=True),
        "popularityAtK": rectools.AvgRecPopularity(K),
        "noveltyAtK": rectools.MeanInvUserFreq(K),
    }
    ref = rectools.calc_metrics(theirs, table(lists[name]), relevant, prev_interactions=train, catalog=catalog)
    assert len(ref) == len(theirs)
    for metric, value in ref.items():
        assert comp[metric] == pytest.approx(value, rel=1e-6), metric
    # RecTools divides by R, or by k with another switch; here, as in pyspark.ml, by the smaller of the two.
    maps = rectools.MAP(K).calc_per_user(table(lists[name]), relevant)
    found = relevant.groupby("user_id").size().reindex(maps.index)
    ref_map = float((maps * found / np.minimum(found, K)).mean())
    assert comp["meanAveragePrecisionAtK"] == pytest.approx(ref_map, rel=1e-6)


def test_the_area_under_the_curve_equals_rectools_over_all_items(spark, frames, parts):
    train, relevant = parts
    n_items = train.item.nunique()
    known = relevant[relevant.item.isin(train.item) & (relevant.user <= 40)]
    wanted = spark.createDataFrame(known[["user", "item"]])
    whole = bias_ranking(frames[0], wanted, n_items)
    comp = ranking_metrics(whole, wanted, n_items, n_items)["areaUnderROC"]
    theirs, areas = table(whole), []
    truth = known.rename(columns={"user": "user_id", "item": "item_id"})
    for user, own in truth.groupby("user_id"):  # RecTools' k is the number of negatives, which differs by user
        area = rectools.PartialAUC(n_items - len(own)).calc_per_user(theirs[theirs.user_id == user], own)
        areas.append(float(area.iloc[0]))
    assert len(areas) > 30 and comp == pytest.approx(np.mean(areas), rel=1e-6)
