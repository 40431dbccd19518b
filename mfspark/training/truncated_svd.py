"""Randomised block subspace iteration on the frame of blocks: the truncated SVD of a large matrix A.

Halko, Martinsson, Tropp 2011, "Finding structure with randomness", algorithms 4.4 and 5.1. One pass over the blocks of
users computes A^T A Q: each task multiplies its rows of A with Q and the product with their transpose, so that per
iteration only n x l numbers travel, once per block. The last pass brings A Q to the driver, whose small SVD gives
both sides.

A is never dense: A = S + a b^T with S of the sparsity of the ratings. Missing pairs are 0 for a = 0; otherwise a b^T
holds the means that missing pairs have, and S = (r - a_u b_i) at the rated pairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import DataFrame

from mfspark.blocks.build import Layout
from mfspark.blocks.map_blocks import joined, side_sums, summed, visit_blocks
from mfspark.blocks.profile import Profile
from mfspark.kernels.csr import Block, Side
from mfspark.kernels.spmm import add_product, add_transposed_product, padded
from mfspark.training.checkpoint import NEVER, Checkpoints
from mfspark.training.history import Iteration
from mfspark.training.loop import Hook, Measures, Stopping, run

Doubles = NDArray[np.float64]
IMPUTATIONS = ("zero", "mean", "userMean", "itemMean")
"""What a missing pair is: 0, the mean of all ratings, of the user's, of the item's."""


@dataclass(frozen=True)
class Background:
    """The rank-one part a b^T of A, that is what missing pairs are."""

    a: Doubles
    b: Doubles


@dataclass
class Decomposition:
    """U (m x k), singular values s (k,) and V (n x k); ``square`` is the squared Frobenius norm of A."""

    U: Doubles
    s: Doubles
    V: Doubles
    square: float


def background(blocks: DataFrame, layout: Layout, profile: Profile, imputation: str) -> Background:
    """Return the rank-one part for one of IMPUTATIONS; the means of users or items take a pass over the blocks."""
    m, n = (len(side) for side in profile.sides)
    if imputation in ("zero", "mean"):
        mean = profile.mean if imputation == "mean" else 0.0
        return Background(np.full(m, mean), np.ones(n))
    totals = side_sums(blocks, layout, (m, n), lambda block: block.ratings)
    means = [total / np.maximum(side.counts, 1) for total, side in zip(totals, profile.sides, strict=True)]
    return Background(means[0], np.ones(n)) if imputation == "userMean" else Background(np.ones(m), means[1])


def multiply_block(block: Block, a: Doubles, b: Doubles, Q: Doubles, square: bool) -> tuple[Doubles, float]:
    """Return A Q of a block's rows (rows x l), or A^T A Q (n x l) if ``square``; and the squares of A's entries.

    ``a`` are the rows' entries of the background, ``b`` all of the columns'. Q has a multiple of PANEL columns.
    """
    rows = np.repeat(np.arange(block.rows), np.diff(block.indptr))
    behind = a[rows] * b[block.indices]
    values = block.ratings.astype(np.float64) - behind
    Y = np.outer(a, b @ Q)
    add_product(block.indptr, block.indices, values, Q, Y)
    total = float(values @ (values + 2 * behind) + (a @ a) * (b @ b))
    if not square:
        return Y, total
    G = np.outer(b, a @ Y)
    add_transposed_product(block.indptr, block.indices, values, Y, G)
    return G, total


class Matrix:
    """A as the frame of blocks, for products with tall, thin matrices."""

    def __init__(
        self, blocks: DataFrame, layout: Layout, shape: tuple[int, int], behind: Background, carrier: str = "auto"
    ) -> None:
        self.blocks, self.layout, self.shape, self.behind, self.carrier = blocks, layout, shape, behind, carrier

    def times(self, Q: Doubles, square: bool) -> tuple[Doubles, float]:
        """Return A Q (m x l), or A^T A Q (n x l) if ``square``; and the squared Frobenius norm of A."""
        width = Q.shape[1]

        def multiply(block: Block, _number: int, rows: slice, data: Any) -> tuple[bytes, float]:
            wide, behind = data
            product, norm = multiply_block(block, behind.a[rows], behind.b, wide, square)
            return np.ascontiguousarray(product[:, :width]).tobytes(), norm

        data = (padded(Q), self.behind)
        results = {"product": "binary", "square": "double"}
        rows = visit_blocks(self.blocks, self.layout, Side.USER, data, multiply, results, self.carrier)
        out = np.zeros((self.shape[1 if square else 0], width))
        return (summed if square else joined)(rows, "product", out), sum(row["square"] for row in rows)


@dataclass
class Basis:
    """A basis Q (n x l) of the rows' space, the squared norm of A, and what A restricted to the basis comes to."""

    Q: Doubles
    square: float
    decomposition: Decomposition | None = None

    def parts(self) -> dict[str, Any]:
        """Return what a checkpoint stores."""
        return {"Q": self.Q, "square": float(self.square)}

    def restore(self, parts: Mapping[str, Any]) -> None:
        """Become what a checkpoint stored."""
        self.Q, self.square = parts["Q"], parts["square"]


def factorize(
    matrix: Matrix,
    rank: int,
    width: int,
    seed: int,
    stopping: Stopping,
    hooks: Sequence[Hook] = (),
    checkpoints: Checkpoints = NEVER,
) -> tuple[Decomposition, list[Iteration]]:
    """Iterate until the captured squares settle; line t of the history is what t multiplications by A^T A give.

    Parameters
    ----------
    matrix : Matrix
        A.
    rank, width : int
        k, and the number l >= k of columns of the basis.
    seed : int
        Of the random subspace to start from.
    stopping : Stopping
        When to stop; ``tol`` is a share of the squared norm of A.
    hooks : sequence of callables
        See ``loop.run``; the state is a Basis.
    checkpoints : Checkpoints
        Where the basis is stored, and what an earlier process left of it.
    """

    def sharpen(basis: Basis, _iteration: int) -> Measures:
        basis.Q, captured, square = improve(matrix, basis.Q, rank)
        return Measures(max(square - captured, 0.0))

    def conclude(basis: Basis, _iteration: int) -> Measures:
        basis.decomposition = result = decompose(matrix, basis.Q, rank)
        return Measures(max(basis.square - float(result.s @ result.s), 0.0))

    basis = Basis(start(matrix.shape[1], min(width, *matrix.shape), seed), 0.0)
    earlier = checkpoints.resume(basis)
    if not earlier:
        basis.Q, _, basis.square = improve(matrix, basis.Q, rank)
    before = replace(stopping, max_iter=stopping.max_iter - 1, whole=basis.square)
    history = run(sharpen, basis, before, hooks, earlier, checkpoints)
    history = run(conclude, basis, Stopping(len(history) + 1), hooks, history)
    assert basis.decomposition is not None
    return basis.decomposition, history


def start(n: int, width: int, seed: int) -> Doubles:
    """Return an orthonormal basis of a random subspace (n x width)."""
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((n, width)))[0]


def improve(matrix: Matrix, Q: Doubles, rank: int) -> tuple[Doubles, float, float]:
    """Return a better basis, sum of the squares of the singular values that Q gives, and the squared norm of A."""
    G, square = matrix.times(Q, square=True)
    H = Q.T @ G
    captured = np.linalg.eigvalsh((H + H.T) / 2)[::-1][:rank].sum()
    return np.linalg.qr(G)[0], float(captured), square


def decompose(matrix: Matrix, Q: Doubles, rank: int) -> Decomposition:
    """Return the truncated SVD of A restricted to the basis Q of its rows' space (n x l), signs made unique."""
    Y, square = matrix.times(Q, square=False)
    basis, R = np.linalg.qr(Y)
    left, s, right = np.linalg.svd(R)
    U, V = basis @ left[:, :rank], Q @ right.T[:, :rank]
    signs = np.sign(V[np.argmax(np.abs(V), axis=0), np.arange(rank)])
    signs[signs == 0] = 1
    return Decomposition(U * signs, s[:rank], V * signs, square)
