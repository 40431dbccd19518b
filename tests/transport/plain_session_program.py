"""A fit in plain sessions whose workers run other Pythons: arguments are the folder of mfspark and the Pythons.

The folder is put on the driver's path only, so that workers have what is installed for their own Python. For each
Python one line is printed: what a fit ended with.
"""

import os
import sys

sys.path.insert(0, sys.argv[1])

from pyspark.sql import SparkSession

from mfspark import ALS, MFSparkError
from mfspark.session import _use_java

_use_java()
for python in sys.argv[2:]:
    os.environ["PYSPARK_PYTHON"] = python
    builder = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false")
    spark = builder.config("spark.driver.memory", "1g").getOrCreate()
    spark.sparkContext.setLogLevel("OFF")
    ratings = spark.createDataFrame(
        [(u, i, 1.0 + u % 2) for u in range(4) for i in range(3)], "user int, item int, rating float"
    )
    jobs = spark.sparkContext.statusTracker()
    try:
        model = ALS(rank=2, maxIter=1).fit(ratings)
        sys.stdout.write(f"RESULT {model.transform(ratings).count()}\n")
    except MFSparkError as error:
        sys.stdout.write(f"RESULT {type(error).__name__} {len(jobs.getJobIdsForGroup())} {error}\n")
    spark.stop()
