"""A storage of checkpoints that is a dictionary: what ``store.checkpoints`` does, without Delta."""

import numpy as np

KEPT = {}
"""Checkpoints by address and iteration: the header, the arrays, the frames."""


class MemoryStorage:
    """The checkpoints of one fit."""

    def __init__(self, spark=None, address="here"):
        self.spark, self.address, self.writes = spark, address, 0

    @property
    def own(self):
        return KEPT.setdefault(self.address, {})

    def exists(self):
        return bool(self.own)

    def headers(self):
        return {iteration: header for iteration, (header, *_) in self.own.items()}

    def read(self, iteration, names):
        return {name: bytearray(self.own[iteration][1][name]) for name in names}

    def frame(self, iteration, name):
        return self.spark.createDataFrame(self.own[iteration][2][name])

    def write(self, iteration, header, arrays, frames):
        parts = {name: np.ascontiguousarray(part).tobytes() for name, part in arrays.items()}
        self.own[iteration] = header, parts, {name: frame.toArrow() for name, frame in frames.items()}
        for old in sorted(self.own)[:-2]:
            del self.own[old]

    def remove(self):
        self.own.clear()
