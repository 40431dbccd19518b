"""What the evaluate job gives a model to see, where it is more than the pipeline's tests look at."""

from mfspark import ALS
from mfspark.config import parse
from mfspark.pipeline.evaluating import HeldOut, _own_lists


def test_users_held_out_are_folded_in_by_their_counts_and_weights(spark):
    plays = [(u, i, 30.0 if i % 3 == u % 3 else 1.0, 1.0 + i % 4) for u in range(30) for i in range(12) if (u + i) % 5]
    frame = spark.createDataFrame(plays, "user int, item int, rating double, weight double")
    model = ALS(rank=3, maxIter=3, implicitPrefs=True, weightCol="weight", seed=1).fit(frame)
    shown = frame.where("user < 12 AND item % 4 < 2")
    config = parse({"source": {"format": "synthetic"}, "store": {"location": "s"}, "evaluate": {"k": 3}})
    for weight, columns in (("weight", frame.columns), ("", frame.columns[:3])):
        given = shown.select(*columns)
        found = sorted(_own_lists(HeldOut(model, frame, frame, given), config).collect())
        assert found == sorted(model.recommendForNewUsers(given, 3, ratingCol="rating", weightCol=weight).collect())
        assert found != sorted(model.recommendForNewUsers(given, 3, ratingCol="", weightCol=weight).collect())
