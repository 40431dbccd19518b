"""The 4 x 6 example of the lecture, rating by rating: predictions, ALS's closed form, the implicit twin."""

import naive
import numpy as np
import pytest

from mfspark.kernels.als.half_step import solve_block
from mfspark.kernels.csr import Block
from mfspark.kernels.objective import Settings, fix

U = np.array([[0.3, 0.7], [0.3, 0.5], [0.2, 0.4], [0.2, 0.1]])
V = np.array([[1, 10, 11, 10, 4, 20], [1, -1, -2, -1, 1, -4]], float).T
CONFIDENCE = np.array(
    [
        [0.85, 0, 0, 0.34, 0, 0.98],
        [0, 0.37, 0.10, 0, 0.63, 0.01],
        [0.45, 0.42, 0.43, 0, 0, 0.23],
        [0, 0, 0.26, 0, 0, 0.88],
    ]
)


def by_rows(known, values):
    rows, columns = np.nonzero(known)
    indptr = np.concatenate([[0], np.cumsum(known.sum(axis=1))])
    return Block(indptr, columns.astype(np.int32), values[rows, columns].astype(np.float32))


def side(F, settings):
    array = np.zeros((len(F), settings.padded))
    array[:, : F.shape[1]] = F
    return array


def test_user_three_gets_1_6_for_item_four():
    assert (U @ V.T)[2, 3] == pytest.approx(1.6)
    assert np.sum(~np.isnan(naive.EXAMPLE)) == 13


@pytest.mark.parametrize("lam", [(0.5, 0.2), (2.0, 0.1)])
def test_als_closed_form_with_two_regularisers(lam):
    """u_i = (sum_j v_j v_j^T + lambda_U I)^-1 sum_j r_ij v_j over the known j; the same for items with lambda_V."""
    known = ~np.isnan(naive.EXAMPLE)
    R = np.where(known, naive.EXAMPLE, 0)
    settings = Settings(2, reg_param=lam, exponent=0.0, dtype="float64")
    comp = solve_block(by_rows(known, R), fix(side(V, settings), settings), settings)[0]
    for u in range(4):
        H = V[known[u]]
        ref = np.linalg.inv(H.T @ H + lam[0] * np.eye(2)) @ H.T @ R[u, known[u]]
        np.testing.assert_allclose(comp[u, :2], ref, rtol=1e-9)
    swapped = settings.swapped()
    comp = solve_block(by_rows(known.T, R.T), fix(side(U, swapped), swapped), swapped)[0]
    for i in range(6):
        H = U[known[:, i]]
        ref = np.linalg.inv(H.T @ H + lam[1] * np.eye(2)) @ H.T @ R[known[:, i], i]
        np.testing.assert_allclose(comp[i, :2], ref, rtol=1e-9)


def test_implicit_twin_equals_the_printed_equation():
    """u_i = (V^T C^i V + lambda I)^-1 V^T C^i p_i, with confidence 0 on the unobserved pairs."""
    P = (~np.isnan(naive.EXAMPLE)).astype(float)
    assert ((CONFIDENCE > 0) == (P > 0)).all()
    lam = 0.3
    settings = Settings(
        2, implicit=True, confidence="linear", alpha=1.0, w0=0.0, reg_param=(lam, lam), exponent=0.0, dtype="float64"
    )
    fixed = fix(side(V, settings), settings)
    comp = solve_block(by_rows(P > 0, CONFIDENCE), fixed, settings)[0]
    for i in range(4):
        C = np.diag(CONFIDENCE[i])
        ref = np.linalg.inv(V.T @ C @ V + lam * np.eye(2)) @ V.T @ C @ P[i]
        np.testing.assert_allclose(comp[i, :2], ref, rtol=1e-5)
