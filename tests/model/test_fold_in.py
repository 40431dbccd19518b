"""Fold-in ends at the minimum of the model's objective, however the model was solved."""

import numpy as np
import pytest
from scipy.optimize import nnls

from mfspark.kernels.als.half_step import solve_block
from mfspark.kernels.als.solvers import SOLVERS
from mfspark.kernels.csr import Block
from mfspark.kernels.objective import Settings, fix
from mfspark.model.fold_in import exact

RANK, ITEMS, LAMBDA = 5, 40, 0.1


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(6)
    V = rng.normal(0.4, 1, (ITEMS, RANK))
    V[:, 1] = V[:, 0] + 0.1 * V[:, 1]  # nearly collinear: few sweeps do not end at the minimum
    return V, [np.sort(rng.permutation(ITEMS)[:n]) for n in (3, 12, 30)], rng.normal(3, 1, (3, ITEMS))


@pytest.mark.parametrize("nonnegative", [False, True])
@pytest.mark.parametrize("solver", ["auto", *(name for name in SOLVERS if name != "descent")])
def test_a_new_row_is_the_minimum_whatever_the_solver(data, solver, nonnegative):
    if nonnegative and solver not in ("auto", "coordinate"):
        solver = "auto"  # the only ones that know the constraint
    V, items, ratings = data
    settings = Settings(RANK, solver=solver, steps=1, reg_param=(LAMBDA, 1.0), nonnegative=nonnegative, dtype="float64")
    side = np.zeros((ITEMS, settings.padded))
    side[:, :RANK] = V
    indptr = np.concatenate([[0], np.cumsum([len(row) for row in items])])
    values = np.concatenate([r[row] for row, r in zip(items, ratings, strict=True)]).astype(np.float32)
    block = Block(indptr, np.concatenate(items).astype(np.int32), values)
    X = solve_block(block, fix(side, settings), exact(settings), np.zeros((3, settings.padded)))[0]
    for u, row in enumerate(items):
        lhs = np.vstack([V[row], np.sqrt(LAMBDA * len(row)) * np.eye(RANK)])
        rhs = np.concatenate([values[indptr[u] : indptr[u + 1]], np.zeros(RANK)])
        ref = nnls(lhs, rhs)[0] if nonnegative else np.linalg.lstsq(lhs, rhs)[0]
        # Descent stops when a sweep moves nothing by more than 1e-6 of the row, which collinear columns multiply.
        np.testing.assert_allclose(X[u, :RANK], ref, rtol=1e-4, atol=1e-4 if nonnegative else 1e-6)
