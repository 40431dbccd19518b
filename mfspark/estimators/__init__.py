"""What a user imports: thin estimators that turn parameters into a call of training.

All have ``rank``, ``maxIter``, ``seed``, ``validationIndicatorCol`` and a history, and are saved, published and used
alike. Of the options that only some have, each is said below to have its own; any other raises an error before Spark
starts, which names the estimators that have it (``options.SUPPORT`` is the table).

Which estimator, which options
------------------------------
ALS
    Alternating least squares, exact row by row: of ratings by the squared loss, or with ``implicitPrefs`` over all
    pairs (four kinds of ``confidence``, ``alpha``, ``unobservedWeight``; then without biases and ``clip``).
    ``solver`` auto, cholesky, dual, cg, subspace or coordinate. L2 by ``regParam``, ``regParamUser``, ``regParamItem``
    and ``regExponent``; ``nonnegative`` and ``elasticNetParam`` (L1) with solver auto or coordinate.
    ``userBias``, ``itemBias``, ``center`` (not with ``nonnegative``); ``weightCol``; ends by ``tol``.
    Starts by ``initStd`` and ``initMode``; ``precision``, ``numItemBlocks`` and ``loop`` say how it is computed.
SGD
    Stochastic gradient descent on single ratings, stratified and distributed: ``loss`` squared, logistic, poisson or
    poisson_identity (which needs ``nonnegative``); ``implicitPrefs`` by drawn negatives (``numNegatives``; no
    ``clip``). ``stepSize`` by one of five ``stepSchedule`` values, AdaGrad by default. L2 as ``ALS``: ``regParam``,
    ``regParamUser``, ``regParamItem``, ``regExponent``; ``nonnegative`` with the losses squared and poisson_identity.
    ``userBias``, ``itemBias``, ``center``; ``weightCol``; ``tol``; ``initStd``, ``initMode``; ``numItemBlocks``.
GradientDescent
    Full gradients, or mini-batches of ``miniBatchFraction`` (then without ``tol``): the same four as ``loss``,
    explicit only. ``solver`` gd, momentum, rmsprop or adam; ``stepSize``, five ``stepSchedule`` values, ``momentum``,
    ``clipNorm``. ``regParam``, ``regParamUser``, ``regParamItem``, ``regExponent``, ``nonnegative`` as ``SGD``.
    ``userBias``, ``itemBias``, ``center`` (which is learned); ``weightCol``; ``initStd``, ``initMode``; ``precision``.
TruncatedSVD
    The best matrix of a rank over all pairs, by block subspace iteration from a random subspace; factors are
    orthogonal. ``imputation`` of what is missing: zero, mean, userMean or itemMean. Ends by ``tol``; ``precision``.
SVDPlusPlus
    Ratings by squared loss with implicit factors of what a user rated, by SGD on blocks of users; biases always.
    ``regParam``, ``regParamUser``, ``regParamItem``, and its own regParamImplicit and regParamBias; ``stepSize``,
    ``initStd``, ``tol``.
BPMF
    Bayesian: ``numSamples`` of Gibbs sampling on the half step of ALS, hyper-parameters sampled too; predictive
    deviations in ``deviationCol``. Squared loss; the mean, no biases; ``weightCol`` scales the precision of a rating;
    ``initStd``, ``precision``, ``numItemBlocks``. There is no stop by a tolerance.

What to choose when
-------------------
``ALS`` is the default: no step size to find, and exact over all pairs for implicit feedback. On ratings give it
``userBias``, ``itemBias`` and ``center``, or leave ``initMode`` at "auto", which starts positive: MLlib's start
(``initMode="mllib"``) takes several times the iterations (the race in tests/bench/README.md).

``SGD`` is the fastest on ratings, once its step and lambda are found: an epoch costs a seventh of a sweep at rank 64,
and grows with the rank, not its square; take it also for losses other than the squared one, and to keep one copy of the
ratings in memory instead of two.

``BPMF``, then ``SVDPlusPlus``, when accuracy on ratings counts more than time; ``BPMF`` also says how sure it is.
``TruncatedSVD`` for fully observed matrices. ``GradientDescent`` is for teaching and for comparing optimisers.

A job trains the estimator whose section its configuration has: als, sgd, gradient_descent, truncated_svd, svdplusplus
or bpmf.

Fold-in
-------
``foldInUsers`` and ``foldInItems`` solve the objective that is stored with the model, fitted, saved or published, and
nothing else: ALS, and the squared loss of ``SGD`` and ``GradientDescent``. For ``SGD(implicitPrefs=True)`` that is what
its drawn negatives minimise on average (users only: how many each user drew is not kept). Other losses and estimators
refuse.

Conventions that differ between libraries are parameters: ``regExponent`` 1 scales lambda by the number of ratings as
MLlib does, 0 does not, as ``implicit``; ``confidence`` is MLlib's ``w0 + alpha |r|``, ``implicit``'s ``alpha |r|``, the
logarithmic form, or iALS's (mfspark/MIGRATION.md has them all).
"""
