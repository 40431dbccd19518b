"""Vector code over the rank for SGD: one update holds its two factor rows in registers.

Numba emits scalar loops and leaves the vectorising to LLVM, which at these lengths spends more on alias checks and loop
remainders than on arithmetic. These intrinsics emit the vector instructions directly: a row of `n` x 16 numbers is `n`
vectors, unrolled because `n` is a compile-time constant. On hosts with narrower registers LLVM splits the vectors.

A *row* of factors is padded with zeros to a multiple of `LANES`; zeros stay zeros under every update here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

LANES = 16
"""Numbers in one vector; the padded rank is a multiple of it."""
SLOW_DIMS = 8
"""Leading dimensions that keep their own squared-gradient average under AdaGrad (Chin et al. 2015, section 3)."""
CACHE_LINE = 64
"""Bytes; rows that start on a cache line are read with half the line accesses of rows that do not."""

_FLOAT, _INT = ir.FloatType(), ir.IntType(32)
_VECTOR, _PAIR = ir.VectorType(_FLOAT, LANES), ir.VectorType(_FLOAT, 2)
# Without nnan and ninf: a diverging factor must stay visibly non-finite.
FAST_MATH = ("reassoc", "nsz", "arcp", "contract", "afn")


def padded_rank(rank: int) -> int:
    """Return `rank` rounded up to a multiple of `LANES`."""
    return -(-rank // LANES) * LANES


def aligned_zeros(n_rows: int, rank: int) -> NDArray[np.float32]:
    """Return float32 zeros of shape (`n_rows`, `padded_rank(rank)`) that start on a cache line.

    The SGD kernel takes any C-contiguous array; a row of one made by this function touches the fewest cache lines.
    """
    width = padded_rank(rank)
    spare = CACHE_LINE // 4
    buffer = np.zeros(n_rows * width + spare, dtype=np.float32)
    start = (-buffer.ctypes.data % CACHE_LINE) // 4
    return buffer[start : start + n_rows * width].reshape(n_rows, width)


class _Emitter:
    """Emits vector instructions for the rows of the array arguments of one intrinsic."""

    def __init__(self, context: Any, builder: Any, signature: Any, args: Any, n_vectors: int) -> None:
        self.context, self.builder, self.signature, self.args = context, builder, signature, args
        self.n_vectors = n_vectors

    def addresses(self, array: int, row: Any) -> list[Any]:
        """Return the addresses of the vectors of one row of the array argument number `array`."""
        struct = self.context.make_array(self.signature.args[array])(self.context, self.builder, self.args[array])
        start = self.builder.mul(row, ir.Constant(row.type, self.n_vectors * LANES))
        base = self.builder.gep(struct.data, [start], inbounds=True)
        at = [self.builder.gep(base, [ir.Constant(_INT, j * LANES)], inbounds=True) for j in range(self.n_vectors)]
        return [self.builder.bitcast(pointer, _VECTOR.as_pointer()) for pointer in at]

    def pair_address(self, array: int, row: Any) -> Any:
        """Return the address of the first two numbers of one row of a two-dimensional array argument.

        Accumulators are read and written as one pair: a read of eight bytes that two writes of four have just made
        would wait until both have left the store buffer.
        """
        struct = self.context.make_array(self.signature.args[array])(self.context, self.builder, self.args[array])
        width = cgutils.unpack_tuple(self.builder, struct.shape)[1]
        start = self.builder.gep(struct.data, [self.builder.mul(row, width)], inbounds=True)
        return self.builder.bitcast(start, _PAIR.as_pointer())

    def pair(self, numbers: list[Any]) -> Any:
        """Return two numbers as a short vector."""
        vector = ir.Constant(_PAIR, ir.Undefined)
        for j, number in enumerate(numbers):
            vector = self.builder.insert_element(vector, number, ir.Constant(_INT, j))
        return vector

    def load(self, addresses: list[Any]) -> list[Any]:
        """Load one vector from each address, which need only be aligned to one number."""
        return [self.builder.load(address, align=4) for address in addresses]

    def store(self, vectors: list[Any], addresses: list[Any]) -> None:
        """Store one vector to each address."""
        for vector, address in zip(vectors, addresses, strict=True):
            self.builder.store(vector, address, align=4)

    def splat(self, scalar: Any) -> Any:
        """Return a vector that repeats `scalar`."""
        undefined = ir.Constant(_VECTOR, ir.Undefined)
        first = self.builder.insert_element(undefined, scalar, ir.Constant(_INT, 0))
        return self.pick(first, undefined, [0] * LANES)

    def pick(self, left: Any, right: Any, lanes: list[int]) -> Any:
        """Return the given lanes of `left` (0 to 15) and `right` (16 to 31) as one vector."""
        return self.builder.shuffle_vector(left, right, ir.Constant(ir.VectorType(_INT, LANES), lanes))

    def lanes_of(self, short: Any, lanes: list[int]) -> Any:
        """Return the given lanes of a vector of any length as one vector."""
        mask = ir.Constant(ir.VectorType(_INT, LANES), lanes)
        return self.builder.shuffle_vector(short, ir.Constant(short.type, ir.Undefined), mask)

    def mul(self, x: Any, y: Any) -> Any:
        """Return x * y."""
        return self.builder.fmul(x, y, flags=FAST_MATH)

    def add(self, x: Any, y: Any) -> Any:
        """Return x + y; a product in it becomes a fused multiply-add."""
        return self.builder.fadd(x, y, flags=FAST_MATH)

    def sub(self, x: Any, y: Any) -> Any:
        """Return x - y."""
        return self.builder.fsub(x, y, flags=FAST_MATH)

    def _tree(self, vectors: list[Any]) -> Any:
        """Return the sum of vectors, as a balanced tree for a short chain of additions."""
        while len(vectors) > 1:
            odd = [vectors[-1]] if len(vectors) % 2 else []
            vectors = [self.add(x, y) for x, y in zip(vectors[::2], vectors[1::2], strict=False)] + odd
        return vectors[0]

    def total(self, vectors: list[Any]) -> Any:
        """Return the sum of all numbers of all vectors."""
        shape = ir.FunctionType(_FLOAT, [_FLOAT, _VECTOR])
        reduce = cgutils.get_or_insert_function(self.builder.module, shape, f"llvm.vector.reduce.fadd.v{LANES}f32")
        return self.builder.call(reduce, [ir.Constant(_FLOAT, 0.0), self._tree(vectors)], fastmath=FAST_MATH)

    def slow_and_fast_total(self, vectors: list[Any]) -> Any:
        """Return the sum over the `SLOW_DIMS` first numbers and that over all others, as a pair (one reduction)."""
        halves = vectors[0]
        if len(vectors) > 1:
            rest = self._tree(vectors[1:])
            folded = self.add(rest, self.lanes_of(rest, [(j + SLOW_DIMS) % LANES for j in range(LANES)]))
            zero = ir.Constant(_VECTOR, [0.0] * LANES)
            halves = self.add(halves, self.pick(zero, folded, [j + LANES * (j >= SLOW_DIMS) for j in range(LANES)]))
        for distance in (4, 2, 1):
            halves = self.add(halves, self.lanes_of(halves, [j ^ distance for j in range(LANES)]))
        ends = ir.Constant(ir.VectorType(_INT, 2), [0, SLOW_DIMS])
        return self.builder.shuffle_vector(halves, ir.Constant(_VECTOR, ir.Undefined), ends)

    def over_roots(self, steps: Any, squares: list[Any]) -> Any:
        """Return steps / sqrt(squares) for two pairs of squares as one vector of four: one root and one division."""
        four = ir.Constant(ir.VectorType(_INT, 4), [0, 1, 2, 3])
        above, below = (self.builder.shuffle_vector(*pairs, four) for pairs in ((steps, steps), squares))
        shape = ir.FunctionType(below.type, [below.type])
        root = cgutils.get_or_insert_function(self.builder.module, shape, "llvm.sqrt.v4f32")
        return self.builder.fdiv(above, self.builder.call(root, [below], fastmath=FAST_MATH), flags=FAST_MATH)

    def keep_positive(self, vectors: list[Any]) -> list[Any]:
        """Project onto the non-negative numbers; NaN stays NaN."""
        zero = ir.Constant(_VECTOR, [0.0] * LANES)
        return [self.builder.select(self.builder.fcmp_ordered("<", v, zero), zero, v) for v in vectors]

    def prefetch(self, addresses: list[Any]) -> None:
        """Ask for the cache lines at the addresses, to be written, into all cache levels."""
        pointer = ir.IntType(8).as_pointer()
        shape = ir.FunctionType(ir.VoidType(), [pointer, _INT, _INT, _INT])
        function = cgutils.get_or_insert_function(self.builder.module, shape, "llvm.prefetch.p0")
        for address in addresses:
            hints = [ir.Constant(_INT, hint) for hint in (1, 3, 1)]
            self.builder.call(function, [self.builder.bitcast(address, pointer), *hints])


def _literal(n: Any) -> int | None:
    """Return the value of a compile-time constant, None while numba still tries it as a variable."""
    return n.literal_value if isinstance(n, types.Literal) else None


@intrinsic(prefer_literal=True)
def prefetch_row(typingctx: Any, P: Any, u: Any, n_vectors: Any) -> Any:  # noqa: ARG001
    """Start loading row `u` of `P` into the cache."""
    n = _literal(n_vectors)
    if n is None:
        return None

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        emit = _Emitter(context, builder, signature, args, n)
        emit.prefetch(emit.addresses(0, args[1]))
        return context.get_dummy_value()

    return types.void(P, types.intp, n_vectors), codegen


@intrinsic(prefer_literal=True)
def dot_rows(typingctx: Any, P: Any, Q: Any, u: Any, i: Any, n_vectors: Any) -> Any:  # noqa: ARG001
    """Return ``P[u] . Q[i]``."""
    n = _literal(n_vectors)
    if n is None:
        return None

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        emit = _Emitter(context, builder, signature, args, n)
        p, q = emit.load(emit.addresses(0, args[2])), emit.load(emit.addresses(1, args[3]))
        return emit.total([emit.mul(x, y) for x, y in zip(p, q, strict=True)])

    return types.float32(P, Q, types.intp, types.intp, n_vectors), codegen


@intrinsic(prefer_literal=True)
def step_rows(
    typingctx: Any,  # noqa: ARG001
    P: Any,
    Q: Any,
    u: Any,  # noqa: ARG001
    i: Any,  # noqa: ARG001
    n_vectors: Any,
    nonnegative: Any,
    a: Any,  # noqa: ARG001
    keep_p: Any,  # noqa: ARG001
    keep_q: Any,  # noqa: ARG001
) -> Any:
    """Set ``P[u], Q[i] = keep_p P[u] + a Q[i], keep_q Q[i] + a P[u]`` at once, projected if `nonnegative`."""
    n, project = _literal(n_vectors), _literal(nonnegative)
    if n is None or project is None:
        return None

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        emit = _Emitter(context, builder, signature, args, n)
        at_p, at_q = emit.addresses(0, args[2]), emit.addresses(1, args[3])
        pairs = list(zip(emit.load(at_p), emit.load(at_q), strict=True))
        slope, keep_p, keep_q = (emit.splat(args[j]) for j in (6, 7, 8))
        p = [emit.add(emit.mul(keep_p, x), emit.mul(slope, y)) for x, y in pairs]
        q = [emit.add(emit.mul(keep_q, y), emit.mul(slope, x)) for x, y in pairs]
        emit.store(emit.keep_positive(p) if project else p, at_p)
        emit.store(emit.keep_positive(q) if project else q, at_q)
        return context.get_dummy_value()

    f = types.float32
    return types.void(P, Q, types.intp, types.intp, n_vectors, nonnegative, f, f, f), codegen


@intrinsic(prefer_literal=True)
def adagrad_step_rows(
    typingctx: Any,  # noqa: ARG001
    P: Any,
    Q: Any,
    G_p: Any,
    G_q: Any,
    u: Any,  # noqa: ARG001
    i: Any,  # noqa: ARG001
    n_vectors: Any,
    nonnegative: Any,
    slope: Any,  # noqa: ARG001
    reg: Any,  # noqa: ARG001
    steps: Any,  # noqa: ARG001
    shares: Any,  # noqa: ARG001
) -> Any:
    """Take one step with own sizes for the slow and the fast dimensions, projected if `nonnegative`.

    With gradients ``g_p = slope Q[i] + reg[0] P[u]`` and ``g_q = slope P[u] + reg[1] Q[i]``, columns 0 (slow) and 1
    (fast) of `G_p` and `G_q`: the step sizes are ``steps / sqrt(G)``, and then ``G += shares * sum of g^2``.
    """
    n, project = _literal(n_vectors), _literal(nonnegative)
    if n is None or project is None:
        return None

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        emit = _Emitter(context, builder, signature, args, n)
        at_p, at_q = emit.addresses(0, args[4]), emit.addresses(1, args[5])
        p, q = emit.load(at_p), emit.load(at_q)
        at_G = [emit.pair_address(2, args[4]), emit.pair_address(3, args[5])]
        G, slope = emit.load(at_G), emit.splat(args[8])
        reg = [emit.splat(x) for x in cgutils.unpack_tuple(builder, args[9])]
        steps, shares = (emit.pair(cgutils.unpack_tuple(builder, x)) for x in args[10:12])
        sizes = emit.over_roots(steps, G)
        for own, other, address, side in ((p, q, at_p, 0), (q, p, at_q, 1)):
            g = [emit.add(emit.mul(slope, y), emit.mul(reg[side], x)) for x, y in zip(own, other, strict=True)]
            fast = emit.lanes_of(sizes, [2 * side + 1] * LANES)
            first = emit.lanes_of(sizes, [2 * side + (j >= SLOW_DIMS) for j in range(LANES)])
            moved = [emit.sub(x, emit.mul(s, d)) for x, s, d in zip(own, [first] + [fast] * (n - 1), g, strict=True)]
            emit.store(emit.keep_positive(moved) if project else moved, address)
            sums = emit.slow_and_fast_total([emit.mul(d, d) for d in g])
            emit.store([emit.add(G[side], emit.mul(shares, sums))], at_G[side : side + 1])
        return context.get_dummy_value()

    f, pair = types.float32, types.UniTuple(types.float32, 2)
    result = types.void(P, Q, G_p, G_q, types.intp, types.intp, n_vectors, nonnegative, f, pair, pair, pair)
    return result, codegen
