"""Save and load an estimator and a model in a session that logs warnings, saying on stderr when that begins."""

import sys

import numpy as np
import pyarrow as pa

from mfspark import ALS, FactorizationModel, spark_session
from mfspark.kernels.objective import Settings
from mfspark.model.factorization import Factorization


def main(folder: str) -> None:
    """Save, save over, load, and look for what is not there."""
    spark = spark_session("quiet", master="local[1]", config={"spark.ui.enabled": "false"})
    spark.sparkContext.setLogLevel("WARN")
    spark.range(1).collect()
    ids, settings = pa.array([1, 2], pa.int64()), Settings(rank=3)
    side = np.zeros((2, settings.padded), np.float32)
    sys.stderr.write("now it saves\n")
    sys.stderr.flush()
    for name, instance in (
        ("als", ALS()),
        ("model", FactorizationModel(Factorization(settings, (ids, ids), (side, side)))),
    ):
        instance.save(f"{folder}/{name}")
        instance.write().overwrite().save(f"{folder}/{name}")
        type(instance).load(f"{folder}/{name}")
        for wrong in (lambda: instance.save(f"{folder}/{name}"), lambda: type(instance).load(f"{folder}/nothing")):  # noqa: B023
            try:
                wrong()
            except LookupError:
                continue
            raise AssertionError("not refused")
    sys.stdout.write("done\n")


if __name__ == "__main__":
    main(sys.argv[1])
