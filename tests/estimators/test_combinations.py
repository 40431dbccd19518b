"""Which options every estimator has: those it has change the fit, all others raise and name who has them."""

import numpy as np
import pytest
from contract import checkerboard
from pyspark.sql import functions as F

import mfspark
from mfspark import ParameterError
from mfspark.estimators.options import SUPPORT, supporters, supports

SMALL = {"rank": 2, "seed": 1}
BASE = {
    "ALS": {**SMALL, "maxIter": 2, "numUserBlocks": 1, "numItemBlocks": 1},
    "SGD": {**SMALL, "maxIter": 2, "numUserBlocks": 1, "initStd": 0.3, "decay": 0.5, "stepSchedule": "inverse"},
    "GradientDescent": {**SMALL, "maxIter": 2, "numUserBlocks": 1, "stepSchedule": "inverse"},
    "TruncatedSVD": {**SMALL, "maxIter": 3, "numUserBlocks": 1, "oversampling": 0},
    "SVDPlusPlus": {**SMALL, "maxIter": 3, "numUserBlocks": 1, "stepSize": 0.05},
    "BPMF": {**SMALL, "maxIter": 2, "burnIn": 1, "numSamples": 1, "numUserBlocks": 1, "numItemBlocks": 1},
}
# A value that is not the default, for every option; what else it needs in some estimator stands in NEEDS.
VALUES = {
    "loss": "logistic",
    "solver": "cg",
    "implicitPrefs": True,
    "alpha": 3.0,
    "confidence": "log",
    "unobservedWeight": 0.3,
    "numNegatives": 2,
    "nonnegative": True,
    "elasticNetParam": 0.5,
    "regParam": 0.7,
    "regParamUser": 0.7,
    "regParamItem": 0.7,
    "regExponent": 0.5,
    "userBias": True,
    "itemBias": True,
    "center": True,
    "weightCol": "weight",
    "tol": 0.9,
    "initMode": "positive",
    "initStd": 0.2,
    "precision": "float64",
    "imputation": "mean",
    "stepSize": 0.01,
    "stepSchedule": "constant",
    "momentum": 0.5,
    "clipNorm": 0.01,
    "miniBatchFraction": 0.5,
    "numSamples": 2,
    "validationIndicatorCol": "held",
    "clip": True,
}
OTHER_VALUES = {
    ("ALS", "initMode"): "normal",  # on these ratings "auto" is positive
    ("GradientDescent", "solver"): "momentum",
    ("SGD", "stepSchedule"): "exponential",
    ("GradientDescent", "stepSchedule"): "exponential",
    ("SVDPlusPlus", "userBias"): False,
    ("SVDPlusPlus", "itemBias"): False,
    ("SVDPlusPlus", "center"): False,
    ("BPMF", "center"): False,
}
IMPLICIT = {"implicitPrefs": True}
NEEDS = {
    ("ALS", "alpha"): IMPLICIT,
    ("ALS", "confidence"): IMPLICIT,
    ("ALS", "unobservedWeight"): IMPLICIT,
    ("ALS", "initMode"): {"solver": "cg"},
    ("ALS", "initStd"): {"solver": "cg"},
    ("ALS", "tol"): {"maxIter": 5},
    ("SGD", "numNegatives"): IMPLICIT,
    ("SGD", "nonnegative"): {"stepSize": 0.3, "regParam": 5.0},  # without the constraint this shrinks past 0
    ("GradientDescent", "nonnegative"): {"stepSize": 0.3, "regParam": 5.0},
    ("SGD", "initMode"): {"center": True},
    ("SGD", "tol"): {"maxIter": 5},
    ("GradientDescent", "initMode"): {"center": True},
    ("GradientDescent", "tol"): {"maxIter": 5},
    ("SVDPlusPlus", "tol"): {"maxIter": 5},
    ("TruncatedSVD", "tol"): {"maxIter": 6},
    ("BPMF", "numSamples"): {"burnIn": 0},
}
SHOWN_ELSEWHERE = {"numItemBlocks", "deviationCol", "loop"}  # these change no factor


def estimator(name, **options):
    return getattr(mfspark, name)(**{**BASE[name], **options})


def value_of(name, option):
    return OTHER_VALUES.get((name, option), VALUES.get(option))


@pytest.fixture(scope="module")
def ratings(spark):
    """The checkerboard with labels 0 and 1 (good for every loss), weights and some pairs held out."""
    frame = checkerboard(spark, 12, 8).withColumn("rating", (F.col("rating") > 3).cast("float"))
    odd = (F.col("user") + F.col("item")) % 3
    return frame.withColumn("weight", 1 + odd.cast("float")).withColumn("held", odd == 0).coalesce(1).persist()


@pytest.fixture(scope="module")
def fitted(ratings):
    """Return what a fit with some options came to; equal calls fit once."""
    known = {}

    def fit(name, **options):
        key = (name, *sorted(options.items()))
        if key not in known:
            model = estimator(name, **options).fit(ratings)
            lines = [(line.loss, line.validation_rmse) for line in model._history]
            arrays = [np.concatenate([model.fitted.features(side).ravel() for side in range(2)]), model.fitted.limits]
            known[key] = (*arrays, lines, model)
        return known[key]

    return fit


def test_every_option_of_the_table_is_tried():
    assert set(SUPPORT) - SHOWN_ELSEWHERE <= set(VALUES)
    assert {name for names in SUPPORT.values() for name in names} == set(BASE)


PAIRS = [(name, option) for name in BASE for option in VALUES]


@pytest.mark.parametrize("name,option", [pair for pair in PAIRS if supports(getattr(mfspark, pair[0]), pair[1])])
def test_what_is_supported_takes_effect(fitted, name, option):
    needed = NEEDS.get((name, option), {})
    factors, limits, lines, model = fitted(name, **needed, **{option: value_of(name, option)})
    base_factors, base_limits, base_lines, _ = fitted(name, **needed)
    assert np.isfinite(factors).all() and np.isfinite([loss for loss, _ in lines]).all()
    same_factors = factors.dtype == base_factors.dtype and np.array_equal(factors, base_factors)
    assert not same_factors or limits != base_limits or len(lines) != len(base_lines)
    assert [line.iteration for line in model._history] == list(range(1, len(lines) + 1))
    if option == "validationIndicatorCol":
        assert lines[-1][1] is not None and base_lines[-1][1] is None
    if option == "nonnegative":
        assert factors.min() >= 0


@pytest.mark.parametrize("name,option", [pair for pair in PAIRS if not supports(getattr(mfspark, pair[0]), pair[1])])
def test_what_is_not_supported_raises_and_names_who_has_it(name, option):
    with pytest.raises(ParameterError) as raised:
        estimator(name, **{option: value_of(name, option)}).fit(None)
    assert option in str(raised.value) and name in str(raised.value)
    assert supporters(option) in str(raised.value)


ALS_SOLVERS = ("auto", "cholesky", "dual", "cg", "subspace", "coordinate")
OPTIMISERS, LOSSES = ("gd", "momentum", "rmsprop", "adam"), ("squared", "logistic", "poisson", "poisson_identity")
BIASED = {"userBias": True, "itemBias": True, "center": True}
TOGETHER = [
    *[("ALS", {"solver": solver, **more}) for solver in ALS_SOLVERS for more in (BIASED, IMPLICIT)],
    *[
        ("ALS", {"solver": solver, **constraint, **more})
        for solver in ("auto", "coordinate")
        for constraint in (
            {"nonnegative": True},
            {"elasticNetParam": 0.5},
            {"nonnegative": True, "elasticNetParam": 0.5},
        )
        for more in ({}, IMPLICIT)
    ],
    ("ALS", {"elasticNetParam": 0.5, **BIASED}),
    *[
        ("ALS", {"confidence": form, "weightCol": "weight", "unobservedWeight": 0.0, "regExponent": 0.0, **IMPLICIT})
        for form in ("mllib", "linear", "log", "ials")
    ],
    *[("SGD", {"loss": loss, **more}) for loss in LOSSES[:3] for more in (BIASED, {"weightCol": "weight", **IMPLICIT})],
    ("SGD", {"loss": "squared", "nonnegative": True}),
    ("SGD", {"loss": "poisson_identity", "nonnegative": True, "initStd": 1.0, "stepSize": 0.01}),
    *[("GradientDescent", {"loss": loss, **BIASED}) for loss in LOSSES[:3]],
    *[("GradientDescent", {"loss": loss, "nonnegative": True}) for loss in ("squared", "poisson_identity")],
    *[("GradientDescent", {"solver": solver}) for solver in OPTIMISERS],
]


@pytest.mark.parametrize("name,options", TOGETHER, ids=[f"{name} {options}" for name, options in TOGETHER])
def test_supported_together(fitted, name, options):
    factors, _, lines, model = fitted(name, **options)
    assert np.isfinite(factors).all() and np.isfinite([loss for loss, _ in lines]).all()
    if options.get("nonnegative"):
        assert factors.min() >= 0


NOT_TOGETHER = [
    ("ALS", {"solver": "adam"}, ALS_SOLVERS),
    ("GradientDescent", {"solver": "cholesky"}, OPTIMISERS),
    ("SGD", {"loss": "hinge"}, LOSSES),
    ("GradientDescent", {"loss": "hinge"}, LOSSES),
    *[
        ("ALS", {"solver": solver, **constraint}, ("auto", "coordinate"))
        for solver in ("cholesky", "dual", "cg", "subspace")
        for constraint in ({"nonnegative": True}, {"elasticNetParam": 0.5})
    ],
    ("ALS", {"cgSteps": 5}, ("solver 'cg'",)),
    ("ALS", {"subspaceSize": 5, "solver": "cg"}, ("solver 'subspace'",)),
    ("ALS", {"alpha": 3.0}, ("implicitPrefs=True",)),
    *[("ALS", {bias: True, **IMPLICIT}, ("implicitPrefs=False",)) for bias in (*BIASED, "clip")],
    *[
        (name, {"nonnegative": True, bias: True}, ("userBias, itemBias or center",))
        for name in ("ALS", "SGD", "GradientDescent")
        for bias in BIASED
    ],
    *[
        (name, {"nonnegative": True, "loss": loss}, ("squared", "poisson_identity"))
        for name in ("SGD", "GradientDescent")
        for loss in ("logistic", "poisson")
    ],
    *[(name, {"loss": "poisson_identity"}, ("nonnegative=True",)) for name in ("SGD", "GradientDescent")],
    *[(name, {"initMode": "normal", "nonnegative": True}, ("positive",)) for name in SUPPORT["initMode"]],
    *[("ALS", {"initMode": mode, "nonnegative": True}, ("positive",)) for mode in ("mllib", "power")],
    ("ALS", {"initMode": "power", **IMPLICIT}, ("implicitPrefs=False",)),
    *[(name, {"initMode": "uniform"}, ("normal, positive",)) for name in SUPPORT["initMode"]],
    *[
        (name, {"numItemBlocks": 2}, ("ALS, SGD or BPMF",))
        for name in ("GradientDescent", "TruncatedSVD", "SVDPlusPlus")
    ],
    ("SGD", {"numItemBlocks": 2}, ("numUserBlocks (1)",)),
    *[(name, {"loop": "jobs"}, ("ALS has it",)) for name in BASE if name != "ALS"],
    *[(name, {"deviationCol": "sd"}, ("BPMF has it",)) for name in BASE if name != "BPMF"],
    ("GradientDescent", {"tol": 0.1, "miniBatchFraction": 0.5}, ("miniBatchFraction=1",)),
    ("GradientDescent", {"squareDecay": 0.5, "solver": "gd"}, ("rmsprop", "adam")),
    ("SGD", {"stepSchedule": "cosine"}, ("constant", "inverse", "exponential", "bold_driver", "adagrad")),
    ("GradientDescent", {"stepSchedule": "adagrad"}, ("constant", "inverse", "exponential", "step", "bold_driver")),
]


@pytest.mark.parametrize(
    "name,options,named", NOT_TOGETHER, ids=[f"{name} {options}" for name, options, _ in NOT_TOGETHER]
)
def test_not_supported_together(name, options, named):
    with pytest.raises(ParameterError) as raised:
        estimator(name, **options).fit(None)
    for word in named:
        assert word in str(raised.value)
