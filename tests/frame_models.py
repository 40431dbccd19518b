"""Models of arrays put on frames, for tests."""

from dataclasses import replace

import numpy as np

from mfspark.kernels.csr import Side
from mfspark.model.factor_table import FactorTable
from mfspark.model.frames.blocks import FactorBlocks, FrameFactorization
from mfspark.transport.persist import Materialiser


def on_frames(spark, model, blocks=(3, 2)):
    """Return the same model with its sides as blocks on the workers."""
    fitted, kinds = model.fitted, model._kinds
    sides = []
    for side in Side:
        frame = FactorTable.of(fitted, side).frame(spark, kinds[side].simpleString())
        packed = FactorBlocks.pack(frame, blocks[side], fitted.sizes[side], fitted.settings, side)
        sides.append(replace(packed, frame=Materialiser().cut(packed.frame).frame))  # as a fit keeps them
    twin = type(model)(
        FrameFactorization(fitted.settings, tuple(sides), fitted.intercept, fitted.limits, mean=fitted.mean)
    )
    model._copyValues(twin)
    twin._resetUid(model.uid)
    twin._popular = model._popular
    twin._kinds, twin._history, twin._seen = kinds, model._history, model._seen
    return twin


def rows(frame, *order):
    """Return a frame's rows, sorted by columns, nulls first, as plain lists."""
    return sorted(map(list, frame.collect()), key=lambda row: [(v is not None, v) for v in _keys(frame, row, order)])


def _keys(frame, row, order):
    return [row[frame.columns.index(name)] for name in order]


def same_rows(comp, ref, *keys):
    """Two frames with the same rows, their last column equal to 1e-5, NaN where NaN."""
    comp, ref = rows(comp, *keys), rows(ref, *keys)
    assert [row[:-1] for row in comp] == [row[:-1] for row in ref]
    np.testing.assert_allclose([row[-1] for row in comp], [row[-1] for row in ref], rtol=1e-5, atol=1e-6)


def same_factors(comp, ref):
    """Two frames of id, features, bias."""
    comp, ref = rows(comp, "id"), rows(ref, "id")
    assert [row[0] for row in comp] == [row[0] for row in ref]
    for one, other in zip(comp, ref, strict=True):
        np.testing.assert_allclose([*one[1], one[2] or 0], [*other[1], other[2] or 0], rtol=1e-5, atol=1e-6)


def lists(frame):
    """Return recommendations as {id: [(candidate, score)]}."""
    return {row[0]: [tuple(one) for one in row.recommendations] for row in frame.collect()}


def assert_lists_equal(comp, ref):
    """The same candidates in the same order where scores differ, scores to 1e-5."""
    comp, ref = lists(comp), lists(ref)
    assert set(comp) == set(ref)
    for key, expected in ref.items():
        found = comp[key]
        np.testing.assert_allclose([s for _, s in found], [s for _, s in expected], rtol=1e-5, atol=1e-6)
        for (one, score), (other, _) in zip(found, expected, strict=True):
            if one != other:  # only ties may change places
                assert any(abs(score - s) <= 1e-5 * max(1, abs(s)) for c, s in expected if c == one) or abs(
                    score - expected[-1][1]
                ) <= 1e-5 * max(1, abs(score))
