"""What the test of publications starts twice: ``publisher.py STORE NAME COUNT`` publishes models.

By turns it does so under a run id of its own and under one that both share. In each the users' factors are c and the
items' 1 / c, so that of one model every prediction is 4, and of two mixed none is.
"""

import sys

from mfspark import ALS, Registry, StoreError, spark_session


def main(store, name, count):
    """Publish, and print a line for each model: a version, or that a later attempt came first."""
    from pyspark.sql import functions as F

    settings = {"spark.driver.memory": "1g", "spark.databricks.delta.snapshotPartitions": 1}
    spark = spark_session(f"publisher-{name}", "local[1]", settings)
    spark.sparkContext.setLogLevel("OFF")
    rows = [(user, item, 1.0) for user in range(30) for item in range(20)]
    model = ALS(rank=4, maxIter=1, seed=1).fit(spark.createDataFrame(rows, "user int, item int, rating float"))
    registry, parameters = Registry(spark, store), {"model": model.parameters()}
    for number in range(int(count)):
        c = float(number + 2) if name == "a" else 1.0 / (number + 2)
        tables = model.tables()
        for side, value in (("user", c), ("item", 1.0 / c)):
            features = F.array(*[F.lit(value)] * 4).cast("array<float>")
            tables[f"{side}_factors"] = tables[f"{side}_factors"].withColumn("features", features)
        try:
            version = registry.publish_tables(
                "shared" if number % 2 else f"{name}-{number}", tables, parameters
            ).version
        except StoreError as error:
            assert "published by a later attempt" in str(error), error
            version = "void"
        sys.stdout.write(f"published {version}\n")
        sys.stdout.flush()
    spark.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
