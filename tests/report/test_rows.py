"""What is collected of tables is bounded, whatever their values."""

import math

import numpy as np
import pytest
from pyspark.sql import functions as F

from mfspark.report import rows


@pytest.fixture(scope="module")
def numbered(spark):
    return spark.range(3000).withColumn("user", F.col("id") % 7).coalesce(1).persist()


@pytest.mark.parametrize("form", ["(id % 5) + 0.5", "id * 1.0", "exp(id / 10.0 - 100)", "(id - 1500) * 1e305"])
def test_bins_are_few_and_count_every_finite_rating(numbered, form):
    odd = (
        F.when(F.col("id") == 0, F.lit(math.nan))
        .when(F.col("id") == 1, F.lit(math.inf))
        .when(F.col("id") > 1, F.expr(form))
    )
    values = np.array([row[0] for row in numbered.select(F.expr(form)).where("id > 1").collect()], float)
    count, not_finite, bins = rows.value_bins(numbered.withColumn("rating", odd), "rating")
    assert (count, not_finite) == (3000, 2)
    assert len(bins) <= rows.BINS
    assert sum(part.count for part in bins) == 2998
    assert (bins[0].low, bins[-1].high) == (pytest.approx(values.min()), pytest.approx(values.max()))
    middle = len(bins) // 2
    inside = (values >= bins[middle].low) & (values <= bins[middle].high)
    assert abs(bins[middle].count - inside.sum()) <= 1


def test_a_sample_is_bounded_and_the_same_again(numbered):
    found = [{row.id for row in rows.sampled(numbered, 3000, ["id"], 100).collect()} for _ in range(2)]
    assert found[0] == found[1]
    assert 50 < len(found[0]) <= 100
    assert rows.sampled(numbered, 3000, ["id"], 3000) is numbered
