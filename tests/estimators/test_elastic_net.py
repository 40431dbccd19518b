"""ALS with elasticNetParam and with solver 'coordinate'."""

import numpy as np
import pytest
from contract import ModelContract, checkerboard
from pyspark.ml.linalg import Vectors
from pyspark.ml.regression import LinearRegression

from mfspark import ALS, ParameterError


class TestCoordinate(ModelContract):
    settled = {"maxIter": 100}
    fold_error = 0.02
    estimator = staticmethod(
        lambda: ALS(rank=3, maxIter=20, regParam=0.01, solver="coordinate", userBias=True, center=True, seed=3)
    )

    def test_the_loss_never_rises(self, model):
        losses = [row.loss for row in model.history.orderBy("iteration").collect()]
        assert np.all(np.diff(losses) <= 1e-4 * losses[0])


def test_coordinate_and_joint_updates_reach_the_same_loss(spark):
    frame = checkerboard(spark)
    losses = [
        ALS(rank=2, maxIter=40, regParam=0.05, solver=solver, seed=1).fit(frame).history.toPandas()["loss"].iloc[-1]
        for solver in ("cholesky", "coordinate")
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


def test_sparsity_grows_with_the_l1_share_and_folding_in_agrees(spark):
    frame, zeros = checkerboard(spark), []
    for share in (0.0, 0.02, 0.3):
        model = ALS(rank=6, maxIter=15, regParam=0.3, elasticNetParam=share, seed=2).fit(frame)
        zeros.append(int(np.sum(np.concatenate([model.fitted.features(side).ravel() for side in range(2)]) == 0)))
        if share == 0.3:
            comp = {row.id: row.features for row in model.foldInUsers(frame.where("user < 4")).collect()}
            for user, features in comp.items():
                np.testing.assert_allclose(model.fitted.features(0)[user], features, rtol=1e-3, atol=1e-3)
    assert zeros[0] == 0 and zeros[0] < zeros[1] < zeros[2]


def test_a_users_factors_are_mllibs_lasso_regression(spark):
    """The same regParam as in pyspark.ml, with items as features' rows and ratings as labels.

    Only with elasticNetParam=1: MLlib divides its L2 part by the labels' standard deviation.
    """
    frame = checkerboard(spark)
    model = ALS(rank=3, maxIter=5, regParam=0.2, elasticNetParam=1.0, seed=2, precision="float64").fit(frame)
    items = dict(zip(model.ids(1).to_pylist(), model.fitted.features(1), strict=True))
    rated = frame.where("user = 5").collect()
    rows = [(float(row.rating), Vectors.dense(items[row.item].tolist())) for row in rated]
    regression = LinearRegression(
        regParam=0.2, elasticNetParam=1.0, fitIntercept=False, standardization=False, tol=1e-10, maxIter=500
    ).fit(spark.createDataFrame(rows, ["label", "features"]))
    comp = model.fitted.features(0)[model.ids(0).to_pylist().index(5)]
    np.testing.assert_allclose(comp, regression.coefficients.toArray(), atol=2e-3)
    assert np.count_nonzero(comp) > 0


@pytest.mark.parametrize(
    "values,message",
    [
        (dict(elasticNetParam=1.5), "elasticNetParam must be in"),
        (dict(elasticNetParam=0.5, solver="cg"), "elasticNetParam has its own solver"),
    ],
)
def test_values_that_cannot_take_effect(spark, values, message):
    with pytest.raises(ParameterError, match=message):
        ALS(**values).fit(checkerboard(spark))
