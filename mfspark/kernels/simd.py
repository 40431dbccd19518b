"""Register-tiled products of tall, thin matrices: the inner loop of every normal equation.

The sum of outer products ``C += A^T B`` over gathered factor rows is all but a few percent of the work of an ALS
half step. BLAS reaches a quarter of a core's fp32 peak at rank 64, because each row of the problem is a new small
product; the tiles here hold a piece of ``C`` in vector registers over all rows, and reach most of the peak (Goto and
van de Geijn 2008, "Anatomy of high-performance matrix multiplication", section 4).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from mfspark.kernels.compile import jit
from mfspark.kernels.csr import PANEL

_FEATURES = llvm.get_host_cpu_features()
# Bytes of a vector register, and how many vectors wide a tile of C may be: 4 where there are 32 registers, not 16.
_REGISTERS = {"avx512f": (64, 4), "avx2": (32, 2), "neon": (16, 4)}
VECTOR_BYTES, TILE_VECTORS = next((found for name, found in _REGISTERS.items() if _FEATURES.get(name)), (16, 2))


@intrinsic
def lanes(typingctx: Any, c: Any) -> Any:  # noqa: ARG001
    """Return how many numbers of the array's type one vector register holds (a constant when compiled)."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ARG001
        width = VECTOR_BYTES // (signature.args[0].dtype.bitwidth // 8)
        return ir.Constant(context.get_value_type(types.intp), width)

    return types.intp(c), codegen


class _VectorCode:
    """What every piece of emitted code needs: the number type, its vector type, fused multiply-add, addresses."""

    def __init__(self, context: Any, builder: Any, signature: Any) -> None:
        self.context, self.builder, self.signature = context, builder, signature
        self.number = context.get_value_type(signature.args[0].dtype)
        self.bytes = signature.args[0].dtype.bitwidth // 8
        self.width = VECTOR_BYTES // self.bytes
        self.vector = ir.VectorType(self.number, self.width)
        self.name = f"v{self.width}f{8 * self.bytes}"
        self.fma = self._intrinsic(f"llvm.fma.{self.name}", self.vector, [self.vector] * 3)

    def _intrinsic(self, name: str, result: Any, arguments: list[Any]) -> Any:
        return cgutils.get_or_insert_function(self.builder.module, ir.FunctionType(result, arguments), name)

    def array(self, position: int, value: Any) -> tuple[Any, Any]:
        """Return an array argument as its data pointer and its row length."""
        array = self.context.make_array(self.signature.args[position])(self.context, self.builder, value)
        return array.data, cgutils.unpack_tuple(self.builder, array.shape)[1]

    def vector_at(self, data: Any, offset: Any) -> Any:
        """Return the address of the vector that starts at ``data + offset``."""
        return self.builder.bitcast(self.builder.gep(data, [offset]), self.vector.as_pointer())

    def load(self, pointer: Any) -> Any:
        """Load a vector from an address with the alignment of one number."""
        return self.builder.load(pointer, align=self.bytes)

    def store(self, value: Any, pointer: Any) -> None:
        """Store a vector to an address with the alignment of one number."""
        self.builder.store(value, pointer, align=self.bytes)

    def splat(self, scalar: Any) -> Any:
        """Return a vector that repeats one number."""
        lane, none = ir.IntType(32), ir.Constant(self.vector, ir.Undefined)
        first = self.builder.insert_element(none, scalar, lane(0))
        return self.builder.shuffle_vector(first, none, ir.Constant(ir.VectorType(lane, self.width), [0] * self.width))

    def sum(self, vector: Any) -> Any:
        """Return the sum of a vector's numbers."""
        reduce = self._intrinsic(f"llvm.vector.reduce.fadd.{self.name}", self.number, [self.number, self.vector])
        return self.builder.call(reduce, [ir.Constant(self.number, 0.0), vector], fastmath=("reassoc",))

    def row(self, position: int, array: Any, index: Any) -> tuple[Any, Any]:
        """Return the address of one row of an array argument, and the row's length."""
        data, length = self.array(position, array)
        return self.builder.gep(data, [self.builder.mul(index, length)]), length

    @contextmanager
    def each_vector(self, left: Any, right: Any, start: Any, stop: Any) -> Iterator[tuple[Any, Any]]:
        """Loop over two rows by vectors, giving both addresses."""
        step = ir.Constant(stop.type, self.width)
        with cgutils.for_range_slice(self.builder, start, stop, step, stop.type) as (j, _):
            yield self.vector_at(left, j), self.vector_at(right, j)


def _tile(mr: int, nr: int) -> Any:
    """Return the intrinsic ``C[i:i+mr, j:j+nr*lanes] += A[:n, i:i+mr]^T B[:n, j:j+nr*lanes]``."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        code = _VectorCode(context, builder, signature)
        a, b, n, i, j, c = args
        (a, stride_a), (b, stride_b), (c, stride_c) = code.array(0, a), code.array(1, b), code.array(5, c)
        constant = lambda x: ir.Constant(i.type, x)  # noqa: E731
        cells = [(r, q) for r in range(mr) for q in range(nr)]
        sums = {cell: cgutils.alloca_once(builder, code.vector) for cell in cells}
        starts = [builder.add(builder.mul(builder.add(i, constant(r)), stride_c), j) for r in range(mr)]
        places = {(r, q): code.vector_at(c, builder.add(starts[r], constant(q * code.width))) for r, q in cells}
        for cell in cells:
            builder.store(code.load(places[cell]), sums[cell])
        with cgutils.for_range(builder, n) as loop:
            at_a = builder.add(builder.mul(loop.index, stride_a), i)
            at_b = builder.add(builder.mul(loop.index, stride_b), j)
            right = [code.load(code.vector_at(b, builder.add(at_b, constant(q * code.width)))) for q in range(nr)]
            for r in range(mr):
                left = code.splat(builder.load(builder.gep(a, [builder.add(at_a, constant(r))])))
                for q in range(nr):
                    builder.store(builder.call(code.fma, [left, right[q], builder.load(sums[r, q])]), sums[r, q])
        for cell in cells:
            code.store(builder.load(sums[cell]), places[cell])
        return context.get_dummy_value()

    @intrinsic
    def tile(typingctx: Any, a: Any, b: Any, n: Any, i: Any, j: Any, c: Any) -> Any:  # noqa: ARG001
        return types.void(a, b, types.intp, types.intp, types.intp, c), codegen

    return tile


@intrinsic
def add_scaled(typingctx: Any, c: Any, i: Any, a: Any, t: Any, f: Any, start: Any) -> Any:  # noqa: ARG001
    """Add ``f * A[t, start:]`` to ``C[i, start:]``; start and the row length are multiples of PANEL."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        code = _VectorCode(context, builder, signature)
        (target, k), (source, _), factor = code.row(0, *args[0:2]), code.row(2, *args[2:4]), code.splat(args[4])
        with code.each_vector(target, source, args[5], k) as (to, of):
            code.store(builder.call(code.fma, [factor, code.load(of), code.load(to)]), to)
        return context.get_dummy_value()

    return types.void(c, types.intp, a, types.intp, c.dtype, types.intp), codegen


@intrinsic
def scale_row(typingctx: Any, c: Any, i: Any, f: Any, start: Any) -> Any:  # noqa: ARG001
    """Multiply ``C[i, start:]`` by f; start and the row length are multiples of PANEL."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        code = _VectorCode(context, builder, signature)
        (row, k), factor = code.row(0, *args[0:2]), code.splat(args[2])
        with code.each_vector(row, row, args[3], k) as (place, _):
            code.store(builder.fmul(factor, code.load(place)), place)
        return context.get_dummy_value()

    return types.void(c, types.intp, c.dtype, types.intp), codegen


@intrinsic
def copy_row(typingctx: Any, c: Any, i: Any, a: Any, t: Any) -> Any:  # noqa: ARG001
    """Copy ``A[t]`` to ``C[i]``; the row length is a multiple of PANEL."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        code = _VectorCode(context, builder, signature)
        (target, k), (source, _) = code.row(0, *args[0:2]), code.row(2, *args[2:4])
        with code.each_vector(target, source, ir.Constant(k.type, 0), k) as (to, of):
            code.store(code.load(of), to)
        return context.get_dummy_value()

    return types.void(c, types.intp, a, types.intp), codegen


@intrinsic
def prefetch_row(typingctx: Any, a: Any, t: Any) -> Any:  # noqa: ARG001
    """Ask the memory for ``A[t]`` ahead of its use, one cache line of 64 bytes at a time."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        code = _VectorCode(context, builder, signature)
        start, k = code.row(0, *args)
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        fetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        line = ir.Constant(k.type, 64 // code.bytes)
        with cgutils.for_range_slice(builder, ir.Constant(k.type, 0), k, line, k.type) as (j, _):
            place = builder.bitcast(builder.gep(start, [j]), byte)
            builder.call(fetch, [place, number(0), number(3), number(1)])
        return context.get_dummy_value()

    return types.void(a, types.intp), codegen


@intrinsic
def dot_rows(typingctx: Any, c: Any, i: Any, a: Any, t: Any, start: Any) -> Any:  # noqa: ARG001
    """Return ``C[i, start:] . A[t, start:]``; start and the row length are multiples of PANEL."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        code = _VectorCode(context, builder, signature)
        (left, k), (right, _) = code.row(0, *args[0:2]), code.row(2, *args[2:4])
        total = cgutils.alloca_once(builder, code.vector)
        builder.store(ir.Constant(code.vector, [0.0] * code.width), total)
        with code.each_vector(left, right, args[4], k) as (one, other):
            builder.store(builder.call(code.fma, [code.load(one), code.load(other), builder.load(total)]), total)
        return code.sum(builder.load(total))

    return c.dtype(c, types.intp, a, types.intp, types.intp), codegen


_tile_4x4, _tile_8x3, _tile_8x2, _tile_4x2, _tile_8x1 = _tile(4, 4), _tile(8, 3), _tile(8, 2), _tile(4, 2), _tile(8, 1)

if TILE_VECTORS == 4:

    @jit
    def add_outer(A, B, n, start, C):  # type: ignore[no-untyped-def]
        """Add ``A[:n, i]^T B[:n, j]`` to ``C[i, j]`` for all i, j >= start on or above the diagonal blocks."""
        k, width = C.shape[0], lanes(C)
        for panel in range(start, k, PANEL):
            j = panel
            while j < k:
                left = (k - j) // width
                if left >= 4:
                    for i in range(panel, panel + PANEL, 4):
                        _tile_4x4(A, B, n, i, j, C)
                    j += 4 * width
                elif left == 3:
                    for i in range(panel, panel + PANEL, 8):
                        _tile_8x3(A, B, n, i, j, C)
                    j += 3 * width
                elif left == 2:
                    for i in range(panel, panel + PANEL, 8):
                        _tile_8x2(A, B, n, i, j, C)
                    j += 2 * width
                else:
                    for i in range(panel, panel + PANEL, 8):
                        _tile_8x1(A, B, n, i, j, C)
                    j += width

else:

    @jit
    def add_outer(A, B, n, start, C):  # type: ignore[no-untyped-def]
        """Add ``A[:n, i]^T B[:n, j]`` to ``C[i, j]`` for all i, j >= start on or above the diagonal blocks."""
        k, width = C.shape[0], lanes(C)
        for panel in range(start, k, PANEL):
            j = panel
            while j < k:
                if (k - j) // width >= 2:
                    for i in range(panel, panel + PANEL, 4):
                        _tile_4x2(A, B, n, i, j, C)
                    j += 2 * width
                else:
                    for i in range(panel, panel + PANEL, 8):
                        _tile_8x1(A, B, n, i, j, C)
                    j += width
